//! Shares against shares: ROC, precision over recall, risk over coverage, reliability.

use std::path::Path;

use plotters::{coord::Shift, prelude::*};

use super::{Curve, Draw, HEIGHT, LABEL, TITLE, colour, line_style, text};
use crate::{Result, interval::Interval};

/// Height of the strip with counts, in pixels.
const STRIP: u32 = 110;

/// Lines and dots between 0 and 1 on both axes, printed in percent.
#[derive(Debug, Clone, PartialEq)]
pub struct Plane {
    /// The title.
    pub title: String,
    /// What the horizontal axis is.
    pub x_label: String,
    /// What the vertical axis is.
    pub y_label: String,
    /// Where the vertical axis ends, above 0 and at most 1.
    pub top: f64,
    /// Whether the line from corner to corner is drawn, as a standard.
    pub diagonal: bool,
    /// The lines.
    pub curves: Vec<Curve>,
    /// The dots.
    pub dots: Vec<Dot>,
    /// How many findings lie in each of equal steps of the horizontal axis, drawn as bars below; empty for no bars.
    pub counts: Vec<usize>,
}

/// A dot with its interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Dot {
    /// Where it stands on the horizontal axis.
    pub x: f64,
    /// Where it stands on the vertical axis.
    pub y: f64,
    /// The interval of `y`.
    pub interval: Option<Interval>,
}

impl Plane {
    /// Draws it into `path.svg` and `path.png`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.draw_both(path)
    }

    fn draw_counts<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> std::result::Result<(), String> {
        let highest = self.counts.iter().copied().max().unwrap_or(0).max(1) as f64;
        let mut chart = ChartBuilder::on(area)
            .margin_left(14)
            .margin_right(26)
            .margin_bottom(4)
            .y_label_area_size(76)
            .x_label_area_size(24)
            .build_cartesian_2d(0.0..1.0, 0.0..highest * 1.45)
            .map_err(text)?;
        let mut mesh = chart.configure_mesh();
        let mesh = mesh.disable_mesh().x_labels(0).y_labels(0).y_desc("findings").x_desc("findings in each tenth");
        mesh.axis_desc_style(("sans-serif", LABEL - 1)).draw().map_err(text)?;
        let width = 1.0 / self.counts.len() as f64;
        for (index, count) in self.counts.iter().enumerate() {
            let (left, high) = (index as f64 * width, *count as f64);
            let bar = Rectangle::new([(left + 0.1 * width, 0.0), (left + 0.9 * width, high)], colour(7).filled());
            chart.draw_series([bar]).map_err(text)?;
            let digits = count.to_string();
            // A digit is about 10 pixels of the 460 wide.
            let at = (left + 0.5 * width - 0.0105 * digits.len() as f64, high + 0.36 * highest);
            chart.draw_series([Text::new(digits, at, ("sans-serif", LABEL - 2))]).map_err(text)?;
        }
        Ok(())
    }
}

impl Draw for Plane {
    fn names(&self) -> Vec<String> {
        self.curves.iter().map(|curve| curve.name.clone()).collect()
    }

    fn height(&self) -> u32 {
        if self.counts.is_empty() { HEIGHT + 40 } else { HEIGHT + 40 + STRIP }
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> std::result::Result<(), String> {
        let (plot, strip) = area.split_vertically(HEIGHT + 40);
        if !self.counts.is_empty() {
            self.draw_counts(&strip)?;
        }
        let top = if self.top > 0.0 { self.top } else { 1.0 };
        let mut chart = ChartBuilder::on(&plot)
            .caption(&self.title, ("sans-serif", TITLE))
            .margin(14)
            // The last label is broader than its tick.
            .margin_right(26)
            .x_label_area_size(56)
            .y_label_area_size(76)
            .build_cartesian_2d(0.0..1.0, 0.0..top)
            .map_err(text)?;
        let percent = |value: &f64| format!("{}", (value * 1000.0).round() / 10.0);
        let mut mesh = chart.configure_mesh();
        let mesh = mesh.x_desc(self.x_label.as_str()).y_desc(self.y_label.as_str()).label_style(("sans-serif", LABEL));
        let mesh =
            mesh.x_labels(6).y_labels(6).max_light_lines(1).x_label_formatter(&percent).y_label_formatter(&percent);
        mesh.draw().map_err(text)?;
        if self.diagonal {
            let corners = [(0.0, 0.0), (top, top)];
            chart.draw_series([PathElement::new(corners, colour(7).stroke_width(1))]).map_err(text)?;
        }
        for (index, curve) in self.curves.iter().enumerate() {
            chart.draw_series(LineSeries::new(curve.points.iter().copied(), line_style(index))).map_err(text)?;
            if let [only] = curve.points.as_slice() {
                chart.draw_series([Circle::new(*only, 5, colour(index).filled())]).map_err(text)?;
            }
        }
        for dot in &self.dots {
            if let Some(Interval { low, high }) = dot.interval {
                let whisker = PathElement::new([(dot.x, low), (dot.x, high)], colour(0).stroke_width(2));
                chart.draw_series([whisker]).map_err(text)?;
            }
            chart.draw_series([Circle::new((dot.x, dot.y), 5, colour(0).filled())]).map_err(text)?;
        }
        Ok(())
    }
}
