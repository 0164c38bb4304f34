//! Charts, as SVG and as PNG.

mod intervals;
mod plane;

use std::path::Path;

use plotters::{
    coord::Shift,
    prelude::*,
    style::{FontStyle, register_font},
};
use serde::{Deserialize, Serialize};

pub use self::{
    intervals::{IntervalRow, Intervals},
    plane::{Dot, Plane},
};
use crate::{Error, Result};

/// Width in pixels: narrow, so that a chart is read on a phone too.
const WIDTH: u32 = 560;
/// Height in pixels, without the names of the lines.
const HEIGHT: u32 = 380;
/// Height of a name in the legend.
const NAME: u32 = 26;
/// Sizes of letters; at the width of a phone two thirds are left of them.
const TITLE: u32 = 23;
const LABEL: u32 = 19;

/// Colours that stand out from white and from each other, for eyes that see no red or no green too
/// (Okabe and Ito, 2008; yellow left out, the light ones last).
const COLOURS: [RGBColor; 8] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 128, 96),
    RGBColor(160, 64, 128),
    RGBColor(20, 20, 20),
    RGBColor(168, 116, 0),
    RGBColor(62, 142, 196),
    RGBColor(120, 120, 120),
];

/// Any chart.
#[derive(Debug, Clone, PartialEq)]
pub enum Chart {
    /// Lines over steps, tokens or temperatures.
    Curves(Curves),
    /// Shares against shares.
    Plane(Plane),
    /// Rates with their intervals.
    Intervals(Intervals),
    /// How often values occur.
    Histogram(Histogram),
}

impl Chart {
    /// The title.
    pub fn title(&self) -> &str {
        match self {
            Self::Curves(chart) => &chart.title,
            Self::Plane(chart) => &chart.title,
            Self::Intervals(chart) => &chart.title,
            Self::Histogram(chart) => &chart.title,
        }
    }

    /// The chart as the text of an SVG.
    ///
    /// # Errors
    /// When it cannot be drawn.
    pub fn svg(&self) -> Result<String> {
        match self {
            Self::Curves(chart) => chart.draw_svg(),
            Self::Plane(chart) => chart.draw_svg(),
            Self::Intervals(chart) => chart.draw_svg(),
            Self::Histogram(chart) => chart.draw_svg(),
        }
        .map_err(|reason| Error::Chart { path: self.title().into(), reason })
    }

    /// Draws it into `path.svg` and `path.png`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        match self {
            Self::Curves(chart) => chart.draw_both(path),
            Self::Plane(chart) => chart.draw_both(path),
            Self::Intervals(chart) => chart.draw_both(path),
            Self::Histogram(chart) => chart.draw_both(path),
        }
    }
}

/// What knows how to draw itself.
trait Draw {
    /// The names of its lines, which stand below it.
    fn names(&self) -> Vec<String>;

    /// Height in pixels without them.
    fn height(&self) -> u32 {
        HEIGHT
    }

    /// How its line of this number is drawn.
    fn style(&self, index: usize) -> ShapeStyle {
        line_style(index)
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> std::result::Result<(), String>;

    fn draw_on<B: DrawingBackend>(&self, area: DrawingArea<B, Shift>) -> std::result::Result<(), String> {
        // Letters come from a font in the program: no system font is needed, and every machine measures alike.
        register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
            .map_err(|_| "the font cannot be read".to_owned())?;
        area.fill(&WHITE).map_err(text)?;
        let (plot, below) = area.split_vertically(self.height());
        for (index, name) in self.names().iter().enumerate() {
            let y = index as i32 * NAME as i32 + 8;
            let line = PathElement::new([(24, y), (58, y)], self.style(index));
            below.draw(&line).map_err(text)?;
            let letters = ("sans-serif", LABEL).into_font();
            below.draw(&Text::new(name.as_str(), (68, y - 9), letters)).map_err(text)?;
        }
        self.draw(&plot)?;
        area.present().map_err(text)
    }

    fn size(&self) -> (u32, u32) {
        (WIDTH, self.height() + self.names().len() as u32 * NAME + 6)
    }

    fn draw_svg(&self) -> std::result::Result<String, String> {
        let mut svg = String::new();
        self.draw_on(SVGBackend::with_string(&mut svg, self.size()).into_drawing_area())?;
        Ok(svg)
    }

    /// Draws it into `path.svg` and `path.png`.
    fn draw_both(&self, path: &Path) -> Result<()> {
        let failed = |reason: String| Error::Chart { path: path.to_owned(), reason };
        let svg = path.with_extension("svg");
        self.draw_on(SVGBackend::new(&svg, self.size()).into_drawing_area()).map_err(failed)?;
        let png = path.with_extension("png");
        self.draw_on(BitMapBackend::new(&png, self.size()).into_drawing_area()).map_err(failed)
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

/// The first lines are broad, so that they show below later ones that run along them.
fn line_style(index: usize) -> ShapeStyle {
    colour(index).stroke_width([6, 4, 3].get(index).copied().unwrap_or(2))
}

/// A histogram of several series over the same steps.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    /// The title.
    pub title: String,
    /// What is counted, under the horizontal axis.
    pub label: String,
    /// Width of a step.
    pub step: u32,
    /// Name and values of each series.
    pub series: Vec<(String, Vec<u32>)>,
}

impl Histogram {
    /// Draws it into `path.svg` and `path.png`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.draw_both(path)
    }
}

impl Draw for Histogram {
    fn names(&self) -> Vec<String> {
        self.series.iter().map(|(name, _)| name.clone()).collect()
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> std::result::Result<(), String> {
        let step = self.step.max(1);
        let largest = self.series.iter().flat_map(|(_, values)| values).copied().max().unwrap_or(0);
        let steps = largest / step + 1;
        let counts: Vec<Vec<u32>> = self
            .series
            .iter()
            .map(|(_, values)| {
                let mut counts = vec![0; steps as usize];
                values.iter().for_each(|value| counts[(value / step) as usize] += 1);
                counts
            })
            .collect();
        let highest = counts.iter().flatten().copied().max().unwrap_or(1).max(1);
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", TITLE))
            .margin(14)
            .x_label_area_size(56)
            .y_label_area_size(76)
            .build_cartesian_2d(0..steps * step, 0..highest + highest / 10 + 1)
            .map_err(text)?;
        let mut mesh = chart.configure_mesh();
        let mesh = mesh
            .x_desc(self.label.as_str())
            .y_desc("samples")
            .x_labels(6)
            .max_light_lines(1)
            .label_style(("sans-serif", LABEL));
        mesh.draw().map_err(text)?;
        for (index, counts) in counts.iter().enumerate() {
            let line = counts.iter().enumerate().map(|(at, count)| (at as u32 * step + step / 2, *count));
            chart.draw_series(LineSeries::new(line, line_style(index))).map_err(text)?;
        }
        Ok(())
    }
}

/// A line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// Lines over one axis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Curves {
    /// The title.
    pub title: String,
    /// What the horizontal axis is.
    pub x_label: String,
    /// What the vertical axis is.
    pub y_label: String,
    /// The lines.
    pub curves: Vec<Curve>,
    /// Points that are circled.
    pub marks: Vec<(f64, f64)>,
}

impl Curves {
    /// Draws them into `path.svg` and `path.png`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        self.draw_both(path)
    }
}

impl Draw for Curves {
    fn names(&self) -> Vec<String> {
        self.curves.iter().map(|curve| curve.name.clone()).collect()
    }

    fn style(&self, index: usize) -> ShapeStyle {
        // Many points make a band of a broad line.
        let many = self.curves.get(index).is_some_and(|curve| curve.points.len() > 60);
        if many { colour(index).stroke_width(2) } else { line_style(index) }
    }

    fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, Shift>) -> std::result::Result<(), String> {
        let points = || self.curves.iter().flat_map(|curve| &curve.points).chain(&self.marks);
        let (mut right, mut top) = points().fold((0.0f64, 0.0f64), |most, at| (most.0.max(at.0), most.1.max(at.1)));
        let least = points().map(|at| at.1).fold(0.0, f64::min);
        right = if right > 0.0 { right } else { 1.0 };
        top = if top > least { top + 0.05 * (top - least) } else { least + 1.0 };
        let mut chart = ChartBuilder::on(area)
            .caption(&self.title, ("sans-serif", TITLE))
            .margin(14)
            // The last label is broader than its tick.
            .margin_right(26)
            .x_label_area_size(56)
            .y_label_area_size(96)
            .build_cartesian_2d(0.0..right, least..top)
            .map_err(text)?;
        let mut mesh = chart.configure_mesh();
        // A rate of 1e-4 must not print as 0.0, nor a step as 100.0.
        let number = |value: &f64| {
            if *value != 0.0 && top < 0.01 {
                format!("{value:.1e}")
            } else {
                format!("{}", (value * 1e6).round() / 1e6)
            }
        };
        let mesh = mesh.x_desc(self.x_label.as_str()).y_desc(self.y_label.as_str()).label_style(("sans-serif", LABEL));
        mesh.x_labels(6)
            .y_labels(8)
            .max_light_lines(1)
            .x_label_formatter(&|value| format!("{value:.0}"))
            .y_label_formatter(&number)
            .draw()
            .map_err(text)?;
        for (index, curve) in self.curves.iter().enumerate() {
            chart.draw_series(LineSeries::new(curve.points.iter().copied(), self.style(index))).map_err(text)?;
            let dots = curve.points.iter().filter(|_| curve.points.len() <= 20);
            chart.draw_series(dots.map(|at| Circle::new(*at, 4, colour(index).filled()))).map_err(text)?;
        }
        let circles = self.marks.iter().map(|at| Circle::new(*at, 7, RED.stroke_width(2)));
        chart.draw_series(circles).map_err(text)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_is_written_as_vector_and_as_bitmap() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("tokens");
        let chart = Histogram {
            title: "Tokens".to_owned(),
            label: "tokens".to_owned(),
            step: 10,
            series: vec![("a".to_owned(), vec![1, 5, 18, 200]), ("b".to_owned(), Vec::new())],
        };
        chart.write(&path).expect("written");
        let svg = std::fs::read_to_string(path.with_extension("svg")).expect("there");
        assert!(svg.contains("Tokens") && svg.contains("polyline"));
        assert!(std::fs::read(path.with_extension("png")).expect("there").starts_with(b"\x89PNG"));
    }

    #[test]
    fn curves_and_circled_points_are_written() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("loss");
        let curve = |name: &str, points: &[(f64, f64)]| Curve { name: name.to_owned(), points: points.to_vec() };
        let chart = Curves {
            title: "Loss".to_owned(),
            x_label: "step".to_owned(),
            y_label: "nats".to_owned(),
            curves: vec![curve("training", &[(0.0, 2.0), (1.0, 1.0), (2.0, 3.0)]), curve("empty", &[])],
            marks: vec![(2.0, 3.0)],
        };
        chart.write(&path).expect("written");
        let svg = std::fs::read_to_string(path.with_extension("svg")).expect("there");
        assert!(svg.contains("training") && svg.matches("#FF0000").count() == 1, "{svg}");
        assert!(std::fs::read(path.with_extension("png")).expect("there").starts_with(b"\x89PNG"));
        Curves { curves: Vec::new(), marks: Vec::new(), ..chart }.write(&path).expect("nothing is a chart too");
    }
}
