//! Figures with their bounds.

/// One promised number.
pub struct Figure {
    /// What was measured.
    pub name: &'static str,
    /// The measured value.
    pub value: f64,
    /// Its unit.
    pub unit: &'static str,
    /// What it is held against, measured in the same run or promised, in the same unit.
    pub bound: Option<f64>,
    /// Whether more is better.
    pub at_least: bool,
    /// How it was measured, and beside what.
    pub note: String,
}

/// All of them.
#[derive(Default)]
pub struct Report(Vec<Figure>);

impl Report {
    /// Adds a figure and says it at once: a bench takes minutes.
    pub fn add(&mut self, figure: Figure) {
        eprintln!("  {:<44} {:>10.2} {}", figure.name, figure.value, figure.unit);
        self.0.push(figure);
    }

    /// Says what was not measured, and why.
    pub fn skip(&mut self, name: &'static str, why: &str) {
        self.add(Figure {
            name,
            value: f64::NAN,
            unit: "",
            bound: None,
            at_least: true,
            note: format!("skipped: {why}"),
        });
    }

    /// The table.
    pub fn print(&self) {
        println!("\n{:<58} {:>12} {:>12} {:<8} {:<6} how", "figure", "measured", "bound", "unit", "holds");
        for figure in &self.0 {
            let (bound, holds) = match figure.bound {
                None => ("-".to_owned(), ""),
                Some(bound) => (
                    format!("{}{bound:.2}", if figure.at_least { ">= " } else { "<= " }),
                    if (figure.value >= bound) == figure.at_least || figure.value == bound { "yes" } else { "NO" },
                ),
            };
            println!(
                "{:<58} {:>12.2} {bound:>12} {:<8} {holds:<6} {}",
                figure.name, figure.value, figure.unit, figure.note
            );
        }
    }

    /// The same as JSON.
    pub fn json(&self) -> anyhow::Result<String> {
        let figures: Vec<_> = self
            .0
            .iter()
            .map(|figure| {
                serde_json::json!({
                    "name": figure.name, "value": figure.value, "unit": figure.unit, "bound": figure.bound,
                    "at_least": figure.at_least, "note": figure.note,
                })
            })
            .collect();
        Ok(serde_json::to_string_pretty(&figures)?)
    }
}

/// The middle value; sorts.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    if values.is_empty() { f64::NAN } else { values[values.len() / 2] }
}
