//! Results: medians, quartiles, ratios; printed, as JSON, as tables and plots.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::PathBuf;

use farcall_benches::plot::{Plot, Scale, Series};

use crate::cases::{self, TABLES, Value};
use crate::options::Options;
use crate::{goals, systems};

/// All results so far.
#[derive(Default)]
pub(crate) struct Report {
    rows: Vec<Row>,
}

/// The samples of one value of one system, in the order of the passes.
struct Row {
    system: &'static str,
    value: Value,
    samples: Vec<f64>,
}

/// What the samples come to.
#[derive(Clone, Copy)]
struct Summary {
    median: f64,
    low: f64,
    high: f64,
    /// To the bare socket, in the same pass.
    ratio: Option<f64>,
}

/// The page that the tables of a run are for, read before it: a run is long.
pub(crate) struct Page {
    folder: PathBuf,
    /// What stands before the tables and behind them.
    before: String,
    after: String,
}

impl Page {
    /// The page in this folder.
    ///
    /// # Errors
    /// A text for a person.
    pub(crate) fn read(folder: PathBuf) -> Result<Page, String> {
        let page = folder.join(PAGE);
        let text = fs::read_to_string(&page)
            .map_err(|error| format!("{} cannot be read: {error}", page.display()))?;
        let parts = text.split_once(BEGIN).and_then(|(before, rest)| {
            let (_, after) = rest.split_once(END)?;
            Some((before.to_owned(), after.to_owned()))
        });
        let Some((before, after)) = parts else {
            return Err(format!("{} lacks the lines {BEGIN} and {END}", page.display()));
        };
        Ok(Page { folder, before, after })
    }
}

/// What is between these stands for the last run.
const BEGIN: &str = "<!-- compare: begin -->";
const END: &str = "<!-- compare: end -->";
const PAGE: &str = "performance.md";

impl Report {
    pub(crate) fn add(&mut self, system: &'static str, value: &Value, sample: f64) {
        let row = self.rows.iter_mut().find(|row| row.is(system, value.name));
        match row {
            Some(row) => row.samples.push(sample),
            None => self.rows.push(Row { system, value: *value, samples: vec![sample] }),
        }
    }

    /// What was measured of a value, in the order of the passes.
    pub(crate) fn samples(&self, system: &str, value: &str) -> Option<&[f64]> {
        let row = self.rows.iter().find(|row| row.is(system, value))?;
        Some(&row.samples)
    }

    /// The median, if there is one.
    pub(crate) fn middle(samples: Vec<f64>) -> Option<f64> {
        let samples: Vec<f64> = samples.into_iter().filter(|sample| sample.is_finite()).collect();
        (!samples.is_empty()).then(|| quantile(samples, 0.5))
    }

    /// The median of a value of a system, if it was measured.
    pub(crate) fn middle_of(&self, system: &str, value: &str) -> Option<f64> {
        Report::middle(self.samples(system, value)?.to_vec())
    }

    /// All values that are in a table, with their units.
    pub(crate) fn values(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let values = cases::ALL.iter().flat_map(|case| case.values);
        values.map(|value| (value.name, value.unit))
    }

    /// The systems, and behind them rows of another kind.
    fn names(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = systems::ALL.iter().map(|entry| entry.name).collect();
        for row in &self.rows {
            if !names.contains(&row.system) {
                names.push(row.system);
            }
        }
        names
    }

    fn summary(&self, row: &Row) -> Summary {
        let bare = self.rows.iter().find(|other| other.is(systems::ALL[0].name, row.value.name));
        // A bare socket allocates nothing, of which there is no multiple.
        let bare = bare.filter(|bare| !bare.value.name.contains("allocations"));
        let ratios = bare.map(|bare| {
            let pairs = row.samples.iter().zip(&bare.samples);
            pairs.map(|(sample, bare)| sample / bare).filter(|ratio| ratio.is_finite()).collect()
        });
        let at = |share| quantile(row.samples.clone(), share);
        Summary {
            median: at(0.5),
            low: at(0.25),
            high: at(0.75),
            ratio: ratios
                .filter(|ratios: &Vec<f64>| !ratios.is_empty())
                .map(|ratios| quantile(ratios, 0.5)),
        }
    }

    /// Rows by case and then by system.
    fn in_order(&self) -> impl Iterator<Item = &Row> {
        let values = cases::ALL.iter().flat_map(|case| case.values);
        values.flat_map(|value| {
            let of = |name: &'static str| self.rows.iter().find(|row| row.is(name, value.name));
            self.names().into_iter().filter_map(of)
        })
    }

    /// One object in each line.
    pub(crate) fn json(&self) {
        for row in self.in_order() {
            let Summary { median, low, high, ratio } = self.summary(row);
            let ratio = ratio.map_or("null".to_owned(), |ratio| format!("{ratio:.4}"));
            println!(
                "{{\"case\":\"{}\",\"system\":\"{}\",\"value\":{median:.3},\"unit\":\"{}\",\
                 \"ratio\":{ratio},\"low\":{low:.3},\"high\":{high:.3},\"passes\":{}}}",
                row.value.name,
                row.system,
                row.value.unit,
                row.samples.len(),
            );
        }
    }

    /// For people.
    pub(crate) fn print(&self) {
        let mut last = "";
        for row in self.in_order() {
            if row.value.name != last {
                last = row.value.name;
                println!(
                    "\n{last} {}",
                    if row.value.unit.is_empty() { "" } else { row.value.unit }
                );
            }
            let Summary { median, low, high, ratio } = self.summary(row);
            let ratio = ratio.map_or(String::new(), times);
            let [median, low, high] = [median, low, high].map(number);
            println!("  {:<28}{median:>14}{ratio:>10}   {low} to {high}", row.system);
        }
        println!("\n{}\n{}", goals::table(self), goals::losses(self));
    }

    /// Puts tables and plots where the docs have them.
    pub(crate) fn write(&self, page: &Page, options: &Options) -> io::Result<()> {
        let Page { folder, before, after } = page;
        let tables = self.tables(options);
        let text = format!("{before}{BEGIN}\n\n{tables}{END}{after}");
        fs::write(folder.join(PAGE), text)?;
        for (name, plot) in
            [("compare-calls.svg", self.calls()), ("compare-echoes.svg", self.echoes())]
        {
            if !plot.series.is_empty() {
                fs::write(folder.join(name), plot.svg())?;
            }
        }
        Ok(())
    }

    fn tables(&self, options: &Options) -> String {
        let mut text = format!(
            "{} passes of {} ms{}{}. A cell is a median, the half of its quartiles' distance in percent, and the ratio \
             to bare TCP.\n",
            options.passes,
            options.span.as_millis(),
            if options.two_cores { ", two cores" } else { ", one core" },
            if options.processes { ", two processes" } else { ", one process" },
        );
        for (title, columns) in TABLES {
            let columns: Vec<_> = (columns.iter())
                .filter(|(name, _)| self.rows.iter().any(|row| row.value.name == *name))
                .collect();
            if columns.is_empty() {
                continue;
            }
            let heads: Vec<String> = columns
                .iter()
                .map(|(name, head)| {
                    let unit = self.rows.iter().find(|row| row.value.name == *name);
                    match unit.map_or("", |row| row.value.unit) {
                        "" => (*head).to_owned(),
                        unit => format!("{head}, {unit}"),
                    }
                })
                .collect();
            let _ = writeln!(text, "\n### {title}\n\n| | {} |", heads.join(" | "));
            let _ = writeln!(text, "|---{}|", "|---".repeat(columns.len()));
            for system in self.names() {
                let cells: Vec<_> =
                    columns.iter().map(|(name, _)| self.cell(system, name)).collect();
                if cells.iter().any(|cell| !cell.is_empty()) {
                    let _ = writeln!(text, "| {system} | {} |", cells.join(" | "));
                }
            }
        }
        let _ = write!(
            text,
            "\n### Goals\n\nMedians over the passes, of ratios within a pass.\n\n{}\n### Where we lose\n\nEvery goal that \
             this run missed, and every figure in which another framework is ahead of farcall's at most once over \
             TCP by more than 1 %.\n\n{}",
            goals::table(self),
            goals::losses(self)
        );
        text += "\n![Calls per second against calls in flight](compare-calls.svg)\n\n\
                 ![Echoed bytes per second against the size](compare-echoes.svg)\n\n";
        text
    }

    fn cell(&self, system: &str, value: &str) -> String {
        let Some(row) = self.rows.iter().find(|row| row.is(system, value)) else {
            return String::new();
        };
        let Summary { median, low, high, ratio } = self.summary(row);
        let mut cell = number(median);
        if row.samples.len() > 1 && median > 0.0 {
            let _ = write!(cell, " ±{:.0} %", (high - low) / 2.0 / median * 100.0);
        }
        if let Some(ratio) = ratio {
            let _ = write!(cell, " ({})", times(ratio));
        }
        cell
    }

    fn calls(&self) -> Plot {
        let one = |system: &str| 1e9 / self.median(system, "one call, p50");
        self.plot("Calls per second", "calls in flight", &["1", "64", "1,024"], |system| {
            vec![
                one(system),
                self.median(system, "64 in flight"),
                self.median(system, "1,024 in flight"),
            ]
        })
    }

    fn echoes(&self) -> Plot {
        let labels = ["1 KiB", "64 KiB", "1 MiB"];
        self.plot("Echoes, MB/s with 16 in flight", "size", &labels, |system| {
            labels.map(|label| self.median(system, &format!("echo of {label}"))).to_vec()
        })
    }

    /// Of the systems that have all the values.
    fn plot(
        &self,
        title: &str,
        below: &str,
        labels: &[&'static str],
        values: impl Fn(&str) -> Vec<f64>,
    ) -> Plot {
        let colours = [
            "#888888", "#1f6feb", "#0a3069", "#6639ba", "#54aeff", "#d4691e", "#bf8700", "#cf222e",
            "#1a7f37", "#bf3989", "#953800", "#57606a",
        ];
        let mut series: Vec<Series> = Vec::new();
        for entry in systems::ALL {
            let values = values(entry.name);
            if values.iter().all(|value| value.is_finite()) {
                let colour = colours[series.len() % colours.len()];
                series.push(Series { name: entry.name, colour, values });
            }
        }
        Plot {
            title: title.to_owned(),
            below: below.to_owned(),
            labels: labels.to_vec(),
            scale: Scale::Logarithmic,
            series,
        }
    }

    fn median(&self, system: &str, value: &str) -> f64 {
        let row = self.rows.iter().find(|row| row.is(system, value));
        row.map_or(f64::NAN, |row| self.summary(row).median)
    }
}

impl Row {
    fn is(&self, system: &str, value: &str) -> bool {
        self.system == system && self.value.name == value
    }
}

fn quantile(mut samples: Vec<f64>, share: f64) -> f64 {
    samples.sort_by(f64::total_cmp);
    // The middle of an even number is the lower one, as good as the upper.
    samples[((samples.len() - 1) as f64 * share) as usize]
}

/// With thousands apart, or with decimals if it is small.
pub(crate) fn number(value: f64) -> String {
    if !value.is_finite() {
        return "-".to_owned();
    }
    if value.abs() < 100.0 {
        return format!("{value:.2}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A ratio, with decimals where they say something.
fn times(ratio: f64) -> String {
    if ratio < 0.1 {
        format!("{ratio:.4}")
    } else if ratio < 100.0 {
        format!("{ratio:.2}")
    } else {
        number(ratio)
    }
}
