//! Charts, as SVG and as PNG.

use std::path::Path;

use plotters::{
    coord::{CoordTranslate, Shift},
    prelude::*,
    style::{FontStyle, register_font},
};

use crate::{Error, Result};

/// Width and height, in pixels.
const SIZE: (u32, u32) = (900, 480);
/// Pixels of a row of [`RateBars`], and of what stands above and below them.
const BAR: u32 = 26;
const AROUND_BARS: u32 = 110;

/// What knows how to draw itself.
trait Draw {
    fn draw<B: DrawingBackend>(&self, area: DrawingArea<B, Shift>) -> std::result::Result<(), String>;

    /// Width and height, in pixels.
    fn size(&self) -> (u32, u32) {
        SIZE
    }

    /// Draws it into `path.svg` and `path.png`.
    fn draw_both(&self, path: &Path) -> Result<()> {
        let failed = |reason: String| Error::Chart { path: path.to_owned(), reason };
        // Letters of the bitmap come from a font in the program: no system font is needed.
        register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
            .map_err(|_| failed("the font cannot be read".to_owned()))?;
        let svg = path.with_extension("svg");
        self.draw(SVGBackend::new(&svg, self.size()).into_drawing_area()).map_err(failed)?;
        let png = path.with_extension("png");
        self.draw(BitMapBackend::new(&png, self.size()).into_drawing_area()).map_err(failed)
    }
}

/// Any chart.
pub(crate) enum Picture {
    Curves(Curves),
    Histogram(Histogram),
    Rates(RateBars),
}

impl Picture {
    /// Draws it into `path.svg` and `path.png`.
    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        match self {
            Self::Curves(curves) => curves.draw_both(path),
            Self::Histogram(histogram) => histogram.draw_both(path),
            Self::Rates(bars) => bars.draw_both(path),
        }
    }

    /// What it shows.
    pub(crate) fn title(&self) -> &str {
        match self {
            Self::Curves(curves) => &curves.title,
            Self::Histogram(histogram) => &histogram.title,
            Self::Rates(bars) => &bars.title,
        }
    }
}

/// A rate of one system.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RateBar {
    pub(crate) name: String,
    /// What it is a share of.
    pub(crate) n: u64,
    pub(crate) value: Option<f64>,
    pub(crate) low: Option<f64>,
    pub(crate) high: Option<f64>,
}

/// Rates with their intervals, one below the other.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RateBars {
    pub(crate) title: String,
    pub(crate) bars: Vec<RateBar>,
}

impl Draw for RateBars {
    fn size(&self) -> (u32, u32) {
        (SIZE.0, AROUND_BARS + BAR * self.bars.len().max(1) as u32)
    }

    fn draw<B: DrawingBackend>(&self, area: DrawingArea<B, Shift>) -> std::result::Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        area.fill(&WHITE).map_err(|error| text(&error))?;
        let n = self.bars.len().max(1);
        let name = |at: &f64| {
            // The first stands on top; between two rows there is no name.
            let row = n as f64 - 1.0 - *at;
            let bar = (row.fract().abs() < 1e-6).then(|| self.bars.get(row as usize)).flatten();
            bar.map_or(String::new(), |bar| format!("{} (n = {})", bar.name, bar.n))
        };
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 22))
            .margin(14)
            .x_label_area_size(44)
            .y_label_area_size(400)
            .build_cartesian_2d(0.0..1.0, -0.5..n as f64 - 0.5)
            .map_err(|error| text(&error))?;
        let mut mesh = chart.configure_mesh();
        mesh.x_desc("share, with Wilson's 95 % interval").label_style(("sans-serif", 14)).disable_y_mesh();
        let mesh = mesh.x_labels(6).x_label_formatter(&|share| format!("{share:.1}"));
        mesh.y_labels(2 * n + 1).y_label_formatter(&name).draw().map_err(|error| text(&error))?;
        for (row, bar) in self.bars.iter().enumerate() {
            let at = (n - 1 - row) as f64;
            let color = Palette99::pick(row).to_rgba();
            if let (Some(low), Some(high)) = (bar.low, bar.high) {
                let whisker = PathElement::new([(low, at), (high, at)], color.stroke_width(2));
                chart.draw_series([whisker]).map_err(|error| text(&error))?;
            }
            if let Some(value) = bar.value {
                chart.draw_series([Circle::new((value, at), 5, color.filled())]).map_err(|error| text(&error))?;
            }
        }
        area.present().map_err(|error| text(&error))
    }
}

/// The names of the lines.
fn draw_legend<'a, B: DrawingBackend + 'a, C: CoordTranslate>(
    chart: &mut ChartContext<'a, B, C>,
    position: SeriesLabelPosition,
) -> std::result::Result<(), String> {
    let mut labels = chart.configure_series_labels();
    labels.position(position).label_font(("sans-serif", 15)).border_style(BLACK).background_style(WHITE);
    labels.draw().map_err(|error| error.to_string())
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
    fn draw<B: DrawingBackend>(&self, area: DrawingArea<B, Shift>) -> std::result::Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
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
        area.fill(&WHITE).map_err(|error| text(&error))?;
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 22))
            .margin(14)
            .x_label_area_size(44)
            .y_label_area_size(60)
            .build_cartesian_2d(0..steps * step, 0..highest + highest / 10 + 1)
            .map_err(|error| text(&error))?;
        let mesh =
            chart.configure_mesh().x_desc(self.label.as_str()).y_desc("samples").label_style(("sans-serif", 15)).draw();
        mesh.map_err(|error| text(&error))?;
        for (index, ((name, _), counts)) in self.series.iter().zip(&counts).enumerate() {
            let color = Palette99::pick(index).to_rgba();
            let line = counts.iter().enumerate().map(|(at, count)| (at as u32 * step + step / 2, *count));
            let drawn =
                chart.draw_series(LineSeries::new(line, color.stroke_width(2))).map_err(|error| text(&error))?;
            drawn.label(name).legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], color.stroke_width(2)));
        }
        draw_legend(&mut chart, SeriesLabelPosition::MiddleRight)?;
        area.present().map_err(|error| text(&error))
    }
}

/// A line.
#[derive(Debug, Clone, PartialEq)]
pub struct Curve {
    /// Its name in the legend.
    pub name: String,
    /// Its points, from left to right.
    pub points: Vec<(f64, f64)>,
}

/// Lines over one axis.
#[derive(Debug, Clone, PartialEq)]
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
    fn draw<B: DrawingBackend>(&self, area: DrawingArea<B, Shift>) -> std::result::Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let points = || self.curves.iter().flat_map(|curve| &curve.points).chain(&self.marks);
        let (mut right, mut top) = points().fold((0.0f64, 0.0f64), |most, at| (most.0.max(at.0), most.1.max(at.1)));
        let least = points().map(|at| at.1).fold(0.0, f64::min);
        right = if right > 0.0 { right } else { 1.0 };
        // The legend stands above the lines.
        let room = 0.05 + 0.08 * self.curves.len() as f64;
        top = if top > least { top + room * (top - least) } else { least + 1.0 };
        area.fill(&WHITE).map_err(|error| text(&error))?;
        let mut chart = ChartBuilder::on(&area)
            .caption(&self.title, ("sans-serif", 22))
            .margin(14)
            .x_label_area_size(44)
            .y_label_area_size(76)
            .build_cartesian_2d(0.0..right, least..top)
            .map_err(|error| text(&error))?;
        let mut mesh = chart.configure_mesh();
        // A rate of 1e-4 must not print as 0.0, nor a step as 100.0.
        let number = |value: &f64| {
            if *value != 0.0 && top < 0.01 {
                format!("{value:.1e}")
            } else {
                format!("{}", (value * 1e6).round() / 1e6)
            }
        };
        let mesh = mesh.x_desc(self.x_label.as_str()).y_desc(self.y_label.as_str()).label_style(("sans-serif", 15));
        // Shares have decimals, steps have none.
        let decimals = if right > 1.5 { 0 } else { 1 };
        mesh.x_label_formatter(&|value| format!("{value:.decimals$}"))
            .y_label_formatter(&number)
            .draw()
            .map_err(|error| text(&error))?;
        for (index, curve) in self.curves.iter().enumerate() {
            let color = Palette99::pick(index).to_rgba();
            let line = LineSeries::new(curve.points.iter().copied(), color.stroke_width(2));
            let drawn = chart.draw_series(line).map_err(|error| text(&error))?;
            drawn
                .label(&curve.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 22, y)], color.stroke_width(2)));
        }
        let circles = self.marks.iter().map(|at| Circle::new(*at, 7, RED.stroke_width(2)));
        chart.draw_series(circles).map_err(|error| text(&error))?;
        draw_legend(&mut chart, SeriesLabelPosition::UpperRight)?;
        area.present().map_err(|error| text(&error))
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
        assert!(svg.contains("training") && svg.matches("<circle").count() == 1);
        assert!(std::fs::read(path.with_extension("png")).expect("there").starts_with(b"\x89PNG"));
        Curves { curves: Vec::new(), marks: Vec::new(), ..chart }.write(&path).expect("nothing is a chart too");
    }
}
