//! Rates with their intervals, one block a system.

use std::path::Path;

use plotters::{coord::Shift, prelude::*};

use super::{Draw, LABEL, TITLE, colour, text};
use crate::{Result, interval::Interval};

/// Heights in pixels: of a block's name, of a rate below it, of title and axis.
const NAMED: u32 = 30;
const RATE: u32 = 16;
const AROUND: u32 = 118;

/// Rates between 0 and 1, printed in percent, each with its interval.
#[derive(Debug, Clone, PartialEq)]
pub struct Intervals {
    /// The title.
    pub title: String,
    /// What the horizontal axis is.
    pub label: String,
    /// The names of the rates.
    pub measures: Vec<String>,
    /// One block each.
    pub rows: Vec<IntervalRow>,
}

/// The rates of one system.
#[derive(Debug, Clone, PartialEq)]
pub struct IntervalRow {
    /// Its name.
    pub name: String,
    /// A rate and its interval for each measure; `None` where it is undefined.
    pub rates: Vec<Option<(f64, Interval)>>,
}

impl Intervals {
    /// Draws it into `path.svg` and `path.png`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.draw_both(path)
    }

    fn block(&self) -> u32 {
        NAMED + RATE * self.measures.len() as u32
    }
}

impl Draw for Intervals {
    fn names(&self) -> Vec<String> {
        self.measures.clone()
    }

    fn style(&self, index: usize) -> ShapeStyle {
        colour(index).stroke_width(3)
    }

    fn height(&self) -> u32 {
        AROUND + self.block() * self.rows.len().max(1) as u32
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> std::result::Result<(), String> {
        let tall = f64::from(self.block() * self.rows.len().max(1) as u32);
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", TITLE))
            .margin(14)
            .margin_right(26)
            .x_label_area_size(56)
            .y_label_area_size(16)
            .build_cartesian_2d(0.0..1.0, 0.0..tall)
            .map_err(text)?;
        let mut mesh = chart.configure_mesh();
        let mesh = mesh.disable_y_mesh().y_labels(0).x_labels(6).max_light_lines(1).x_desc(self.label.as_str());
        let mesh = mesh.label_style(("sans-serif", LABEL)).x_label_formatter(&|value| format!("{:.0}", 100.0 * value));
        mesh.draw().map_err(text)?;
        for (at, row) in self.rows.iter().enumerate() {
            // Pixels from below.
            let top = tall - f64::from(self.block() * at as u32);
            chart
                .draw_series([Text::new(row.name.clone(), (0.008, top - 5.0), ("sans-serif", LABEL - 1))])
                .map_err(text)?;
            for (index, rate) in row.rates.iter().enumerate() {
                let y = top - f64::from(NAMED) - f64::from(RATE) * index as f64 - 2.0;
                let Some((value, Interval { low, high })) = *rate else {
                    let undefined = Text::new("undefined".to_owned(), (0.008, y + 7.0), ("sans-serif", LABEL - 4));
                    chart.draw_series([undefined]).map_err(text)?;
                    continue;
                };
                let whisker = PathElement::new([(low, y), (high, y)], self.style(index));
                chart.draw_series([whisker]).map_err(text)?;
                chart.draw_series([Circle::new((value, y), 5, colour(index).filled())]).map_err(text)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_drawn_with_its_whisker_and_an_undefined_one_is_named() {
        let chart = Intervals {
            title: "Rates".to_owned(),
            label: "share, %".to_owned(),
            measures: vec!["precision".to_owned(), "recall".to_owned()],
            rows: vec![IntervalRow {
                name: "a <system>".to_owned(),
                rates: vec![Some((0.5, Interval { low: 0.2, high: 0.8 })), None],
            }],
        };
        let svg = chart.draw_svg().expect("drawn");
        assert_eq!(svg.matches("<circle").count(), 1, "{svg}");
        assert!(svg.contains("undefined") && svg.contains("a &lt;system&gt;"), "{svg}");
        assert_eq!(svg, chart.draw_svg().expect("drawn"));
    }
}
