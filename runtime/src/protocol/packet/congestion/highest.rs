//! The highest of the last values, in constant space: Kathleen Nichols' filter, as in Linux'
//! `lib/win_minmax.c`.
//!
//! Keeps the best three, each younger than the one before; when the best is too old, the second
//! takes its place.

/// The highest value of a window of ages.
#[derive(Clone, Debug)]
pub(super) struct Highest {
    window: u64,
    best: [Aged; 3],
}

#[derive(Clone, Copy, Debug, Default)]
struct Aged {
    age: u64,
    value: u64,
}

impl Highest {
    pub(super) fn new(window: u64) -> Highest {
        Highest { window, best: [Aged::default(); 3] }
    }

    /// 0, if there was none.
    #[inline]
    pub(super) fn get(&self) -> u64 {
        self.best[0].value
    }

    /// `age` never falls.
    #[inline]
    pub(super) fn update(&mut self, age: u64, value: u64) {
        let new = Aged { age, value };
        if value >= self.best[0].value || age - self.best[2].age > self.window {
            self.best = [new; 3];
            return;
        }
        if value >= self.best[1].value {
            self.best[1] = new;
            self.best[2] = new;
        } else if value >= self.best[2].value {
            self.best[2] = new;
        }
        self.age_out(new);
    }

    fn age_out(&mut self, new: Aged) {
        let [first, second, _] = self.best;
        let passed = new.age - first.age;
        if passed > self.window {
            self.best = [self.best[1], self.best[2], new];
            if new.age - self.best[0].age > self.window {
                self.best = [self.best[1], self.best[2], new];
            }
        } else if second.age == first.age && passed > self.window / 4 {
            // A quarter without a second best: the newest is one.
            self.best[1] = new;
            self.best[2] = new;
        } else if self.best[2].age == second.age && passed > self.window / 2 {
            self.best[2] = new;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_higher_value_counts_at_once_and_a_lower_one_when_the_window_has_passed() {
        let mut highest = Highest::new(10);
        assert_eq!(highest.get(), 0);
        for (age, value, expected) in
            [(0, 5, 5), (1, 9, 9), (2, 3, 9), (5, 4, 9), (8, 2, 9), (11, 1, 9), (12, 1, 4)]
        {
            highest.update(age, value);
            assert_eq!(highest.get(), expected, "at {age}");
        }
        highest.update(100, 1);
        assert_eq!(highest.get(), 1, "all is too old");
        highest.update(101, 7);
        assert_eq!(highest.get(), 7);
    }

    #[test]
    fn it_is_never_above_the_highest_of_the_window_nor_below_the_newest() {
        let mut state = 3_u64;
        let (mut highest, mut values) = (Highest::new(10), Vec::new());
        let mut age = 0;
        for _ in 0..10_000 {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            age += (state >> 40) % 3;
            let value = (state >> 33) % 1000;
            values.push((age, value));
            highest.update(age, value);
            let of_window = values.iter().rev().take_while(|&&(at, _)| age - at <= 10);
            let most = of_window.map(|&(_, value)| value).max().unwrap_or_default();
            assert!(highest.get() >= value && highest.get() <= most);
        }
    }
}
