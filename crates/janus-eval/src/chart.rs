//! Charts, as SVG and as PNG.

use std::path::Path;

use plotters::{
    coord::Shift,
    prelude::*,
    style::{FontStyle, register_font},
};

use crate::{Error, Result};

/// Width and height, in pixels.
const SIZE: (u32, u32) = (900, 480);

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
        let failed = |reason: String| Error::Chart { path: path.to_owned(), reason };
        // Letters of the bitmap come from a font in the program: no system font is needed.
        register_font("sans-serif", FontStyle::Normal, epaint_default_fonts::UBUNTU_LIGHT)
            .map_err(|_| failed("the font cannot be read".to_owned()))?;
        let svg = path.with_extension("svg");
        self.draw(SVGBackend::new(&svg, SIZE).into_drawing_area()).map_err(failed)?;
        let png = path.with_extension("png");
        self.draw(BitMapBackend::new(&png, SIZE).into_drawing_area()).map_err(failed)
    }

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
        let legend = chart
            .configure_series_labels()
            .label_font(("sans-serif", 15))
            .border_style(BLACK)
            .background_style(WHITE)
            .draw();
        legend.map_err(|error| text(&error))?;
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
}
