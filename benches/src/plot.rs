//! A line plot as SVG: a few series over a few named places.

use std::fmt::Write as _;

/// One plot.
#[derive(Debug)]
pub struct Plot {
    /// Above the picture.
    pub title: String,
    /// What the labels mean.
    pub below: String,
    /// The places, from left to right.
    pub labels: Vec<&'static str>,
    /// How values become heights.
    pub scale: Scale,
    /// The lines.
    pub series: Vec<Series>,
}

/// How values become heights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// From zero.
    Linear,
    /// By powers of ten.
    Logarithmic,
}

/// One line.
#[derive(Debug)]
pub struct Series {
    /// Stands at the line's end.
    pub name: &'static str,
    /// As in `#1f6feb`.
    pub colour: &'static str,
    /// One for each label.
    pub values: Vec<f64>,
}

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 64.0;
/// Room for the names of lines: at least so much, and so much for each letter.
const RIGHT: f64 = 110.0;
const LETTER: f64 = 7.0;
const TOP: f64 = 48.0;
const BOTTOM: f64 = 56.0;
/// Height of a line's name.
const NAME: f64 = 16.0;

impl Plot {
    /// The picture.
    #[must_use]
    pub fn svg(&self) -> String {
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"#ffffff\"/>\n\
             <text x=\"{LEFT}\" y=\"26\" font-size=\"16\" fill=\"#222222\">{}</text>\n",
            self.title,
        );
        self.grid(&mut svg);
        let mut series: Vec<&Series> = self.series.iter().collect();
        series.sort_by(|one, other| self.end(one).total_cmp(&self.end(other)));
        let mut free = 0.0;
        for series in series {
            // Names of lines that end together stand below each other.
            let name = self.end(series).max(free);
            free = name + NAME;
            self.line(series, name, &mut svg);
        }
        svg += "</svg>\n";
        svg
    }

    fn grid(&self, svg: &mut String) {
        for tick in self.ticks() {
            let (y, end) = (self.y(tick), WIDTH - self.right());
            let _ = writeln!(
                svg,
                "<line x1=\"{LEFT}\" y1=\"{y:.1}\" x2=\"{end}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\n\
                 <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#555555\">{tick}</text>",
                LEFT - 8.0,
                y + 4.0,
            );
        }
        for (position, label) in self.labels.iter().enumerate() {
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555555\">{label}</text>",
                self.x(position),
                HEIGHT - BOTTOM + 20.0,
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\" fill=\"#555555\">{}</text>",
            f64::midpoint(LEFT, WIDTH - self.right()),
            HEIGHT - 12.0,
            self.below,
        );
    }

    fn right(&self) -> f64 {
        let longest = self.series.iter().map(|series| series.name.len()).max();
        RIGHT.max(longest.unwrap_or_default() as f64 * LETTER + 2.0 * NAME)
    }

    /// The height at which a line ends.
    fn end(&self, series: &Series) -> f64 {
        self.y(series.values.last().copied().unwrap_or_default())
    }

    fn line(&self, series: &Series, name: f64, svg: &mut String) {
        let points: Vec<String> = (series.values.iter().enumerate())
            .map(|(position, value)| format!("{:.1},{:.1}", self.x(position), self.y(*value)))
            .collect();
        let colour = series.colour;
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2.5\"/>",
            points.join(" "),
        );
        for (position, value) in series.values.iter().enumerate() {
            let (x, y) = (self.x(position), self.y(*value));
            let _ =
                writeln!(svg, "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{colour}\"/>");
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
            self.x(series.values.len() - 1) + 12.0,
            name + 4.0,
            series.name,
        );
    }

    fn x(&self, position: usize) -> f64 {
        let step = (WIDTH - LEFT - self.right()) / self.labels.len() as f64;
        LEFT + step * (position as f64 + 0.5)
    }

    fn y(&self, value: f64) -> f64 {
        let ticks = self.ticks();
        let (low, high) = (ticks[0], ticks[ticks.len() - 1]);
        let share = match self.scale {
            Scale::Linear => (value - low) / (high - low),
            Scale::Logarithmic => (value / low).log10() / (high / low).log10(),
        };
        HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
    }

    /// Where the lines of the grid are, from the lowest to the highest.
    fn ticks(&self) -> Vec<f64> {
        let values = self.series.iter().flat_map(|series| series.values.iter().copied());
        let (least, most) = values
            .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        match self.scale {
            Scale::Linear => {
                let rough = most / 4.0;
                let power = 10_f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * power);
                let step = step.into_iter().find(|step| *step >= rough).unwrap_or(power * 10.0);
                (0..=(most / step).ceil() as u32).map(|number| f64::from(number) * step).collect()
            }
            Scale::Logarithmic => {
                let low = least.log10().floor() as i32;
                let high = (most.log10().ceil() as i32).max(low + 1);
                (low..=high).map(|power| 10_f64.powi(power)).collect()
            }
        }
    }
}
