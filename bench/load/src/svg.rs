//! Plots of how costs grow, as SVG: logarithmic both ways, so that a line says its power.

use std::{fmt::Write, fs, path::Path};

use crate::{
    Result,
    results::{Plot, Results},
    server::Kind,
};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 40.0;
const BOTTOM: f64 = 55.0;

/// Draws what there are points for, and says which plots and their files these are.
pub fn draw_all(results: &Results, kinds: &[Kind], folder: &Path) -> Result<Vec<(Plot, String)>> {
    let mut drawn = Vec::new();
    for plot in Plot::ALL {
        let lines: Vec<(Kind, Vec<(usize, f64)>)> = kinds
            .iter()
            .map(|kind| (*kind, results.line(plot, *kind)))
            .filter(|(_, line)| !line.is_empty())
            .collect();
        if lines.is_empty() {
            continue;
        }
        let (name, title, of) = plot.about();
        let file = format!("{name}.svg");
        fs::write(folder.join(&file), draw(title, of, &lines))?;
        drawn.push((plot, file));
    }
    Ok(drawn)
}

/// A logarithmic axis over whole decades, or over 1, 2, 5 within one.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let (low, high) = values
            .filter(|it| *it > 0.0)
            .fold((f64::MAX, f64::MIN_POSITIVE), |(low, high), it| {
                (low.min(it), high.max(it))
            });
        let (low, high) = (low.min(high).log10().floor(), high.log10().ceil());
        Self {
            low,
            high: if high > low { high } else { low + 1.0 },
            from,
            to,
        }
    }

    fn at(&self, value: f64) -> f64 {
        let part = (value.max(f64::MIN_POSITIVE).log10() - self.low) / (self.high - self.low);
        self.from + part.clamp(0.0, 1.0) * (self.to - self.from)
    }

    fn decades(&self) -> impl Iterator<Item = f64> {
        (self.low as i32..=self.high as i32).map(|power| 10f64.powi(power))
    }
}

fn draw(title: &str, of: &str, lines: &[(Kind, Vec<(usize, f64)>)]) -> String {
    let points = || lines.iter().flat_map(|(_, line)| line);
    let x = Axis::over(points().map(|(x, _)| *x as f64), LEFT, WIDTH - RIGHT);
    let y = Axis::over(points().map(|(_, y)| *y), HEIGHT - BOTTOM, TOP);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"{LEFT}\" y=\"22\" font-size=\"15\">{title}</text>\n"
    );
    let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
    let mut add = |text: std::fmt::Arguments<'_>| {
        svg.write_fmt(text).expect("memory takes it");
        svg.push('\n');
    };
    for value in x.decades() {
        let (at, below) = (x.at(value), bottom + 18.0);
        add(format_args!(
            "<path d=\"M{at:.1} {TOP}V{bottom}\" stroke=\"#ddd\"/>"
        ));
        add(format_args!(
            "<text x=\"{at:.1}\" y=\"{below}\" text-anchor=\"middle\">{}</text>",
            short(value)
        ));
    }
    for value in y.decades() {
        let (at, beside) = (y.at(value), LEFT - 8.0);
        add(format_args!(
            "<path d=\"M{LEFT} {at:.1}H{right}\" stroke=\"#ddd\"/>"
        ));
        add(format_args!(
            "<text x=\"{beside}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            at + 4.0,
            short(value)
        ));
    }
    add(format_args!(
        "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{of}</text>",
        f64::midpoint(LEFT, right),
        HEIGHT - 16.0
    ));
    for (at, (kind, line)) in lines.iter().enumerate() {
        let color = match kind {
            Kind::Ours | Kind::Tuned => "#c2255c",
            Kind::Floor => "#495057",
            Kind::Socketioxide => "#e8890c",
            Kind::Node => "#2b8a3e",
        };
        let mut path = String::new();
        for (number, (at_x, at_y)) in line.iter().enumerate() {
            let (px, py) = (x.at(*at_x as f64), y.at(*at_y));
            let step = if number == 0 { 'M' } else { 'L' };
            write!(path, "{step}{px:.1} {py:.1}").expect("memory takes it");
            add(format_args!(
                "<circle cx=\"{px:.1}\" cy=\"{py:.1}\" r=\"3.5\" fill=\"{color}\"/>"
            ));
        }
        add(format_args!(
            "<path d=\"{path}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"2\"/>"
        ));
        let key = right - 300.0 + 110.0 * at as f64;
        add(format_args!(
            "<text x=\"{key}\" y=\"22\" fill=\"{color}\">{}</text>",
            kind.name()
        ));
    }
    svg.push_str("</svg>\n");
    svg
}

/// 0.01, 1, 100, 10k, 1M.
fn short(value: f64) -> String {
    if value >= 1e6 {
        format!("{}M", value / 1e6)
    } else if value >= 1e4 {
        format!("{}k", value / 1e3)
    } else {
        // A power of ten comes with an error in its last digits.
        format!("{}", (value * 1e9).round() / 1e9)
    }
}
