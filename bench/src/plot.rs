//! Curves as SVG, written by hand: panels side by side, both axes logarithmic, a line a peer.

use std::fmt::Write as _;

/// One picture below a title.
#[derive(Debug)]
pub(crate) struct Picture<'a> {
    pub(crate) title: &'a str,
    pub(crate) x_label: &'a str,
    /// Of values on the x axis.
    pub(crate) x_ticks: Vec<(f64, String)>,
    pub(crate) panels: Vec<Panel<'a>>,
}

#[derive(Debug)]
pub(crate) struct Panel<'a> {
    pub(crate) y_label: &'a str,
    /// In the same order in every panel.
    pub(crate) lines: Vec<(&'a str, Vec<(f64, f64)>)>,
}

const PANEL_WIDTH: f64 = 420.0;
const HEIGHT: f64 = 330.0;
/// The frame of a panel, within it.
const LEFT: f64 = 62.0;
const RIGHT: f64 = 400.0;
const TOP: f64 = 62.0;
const BOTTOM: f64 = 272.0;
/// As many as there are lines at most.
const COLOURS: [&str; 2] = ["#c92a2a", "#1864ab"];

impl Picture<'_> {
    pub(crate) fn svg(&self) -> String {
        let width = PANEL_WIDTH * self.panels.len() as f64;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {HEIGHT}\" width=\"{width}\" height=\"{HEIGHT}\" \
             font-family=\"sans-serif\" font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
        );
        let _ =
            writeln!(svg, "<text x=\"{LEFT}\" y=\"22\" font-size=\"15\" font-weight=\"bold\">{}</text>", self.title);
        for (place, panel) in self.panels.iter().enumerate() {
            let _ = writeln!(svg, "<g transform=\"translate({} 0)\">", PANEL_WIDTH * place as f64);
            self.draw(&mut svg, panel);
            svg += "</g>\n";
        }
        svg + "</svg>\n"
    }

    fn draw(&self, svg: &mut String, panel: &Panel<'_>) {
        let x = Scale::logarithmic(self.x_ticks.iter().map(|(value, _)| *value), LEFT + 14.0, RIGHT - 14.0);
        let ticks = round_values(panel.lines.iter().flat_map(|(_, points)| points.iter().map(|(_, y)| *y)));
        let y = Scale::logarithmic(ticks.iter().copied(), BOTTOM, TOP);
        let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"46\" font-weight=\"bold\">{}</text>", panel.y_label);
        for tick in &ticks {
            let at = y.place(*tick);
            let _ = writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{RIGHT}\" stroke=\"#dee2e6\"/>");
            let _ = writeln!(svg, "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{tick}</text>", LEFT - 6.0, at + 4.0);
        }
        for (value, label) in &self.x_ticks {
            let at = x.place(*value);
            let _ = writeln!(svg, "<path d=\"M{at:.1} {BOTTOM}v5\" stroke=\"black\"/>");
            let _ = writeln!(svg, "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{label}</text>", BOTTOM + 18.0);
        }
        let _ = writeln!(svg, "<path d=\"M{LEFT} {TOP}V{BOTTOM}H{RIGHT}\" fill=\"none\" stroke=\"black\"/>");
        let middle = f64::midpoint(LEFT, RIGHT);
        let _ = writeln!(
            svg,
            "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            BOTTOM + 38.0,
            self.x_label
        );
        for (place, (name, points)) in panel.lines.iter().enumerate() {
            let colour = COLOURS[place % COLOURS.len()];
            let corners: Vec<String> =
                points.iter().map(|(at, value)| format!("{:.1},{:.1}", x.place(*at), y.place(*value))).collect();
            let _ = writeln!(
                svg,
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
                corners.join(" ")
            );
            for corner in &corners {
                let (across, down) = corner.split_once(',').unwrap_or_default();
                let _ = writeln!(svg, "<circle cx=\"{across}\" cy=\"{down}\" r=\"3\" fill=\"{colour}\"/>");
            }
            let right = RIGHT - 70.0 * (panel.lines.len() - 1 - place) as f64;
            let _ = writeln!(svg, "<text x=\"{right}\" y=\"46\" text-anchor=\"end\" fill=\"{colour}\">{name}</text>");
        }
    }
}

/// From values to places along an axis.
struct Scale {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Scale {
    /// Zero, which has no logarithm, lies a factor of four below the smallest other value.
    fn logarithmic(values: impl Iterator<Item = f64> + Clone, from: f64, to: f64) -> Scale {
        let smallest = values.clone().filter(|value| *value > 0.0).fold(f64::INFINITY, f64::min);
        let low = if values.clone().any(|value| value <= 0.0) { smallest / 4.0 } else { smallest };
        Scale { low, high: values.fold(low, f64::max), from, to }
    }

    fn place(&self, value: f64) -> f64 {
        let share = (value.max(self.low) / self.low).ln() / (self.high / self.low).ln();
        self.from + (self.to - self.from) * share
    }
}

/// The values 1, 2 and 5 times a power of ten, from below the smallest value to above the largest.
fn round_values(values: impl Iterator<Item = f64> + Clone) -> Vec<f64> {
    let low = values.clone().fold(f64::INFINITY, f64::min);
    let high = values.fold(0.0, f64::max);
    let all = (-3..9).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
    let below = all.clone().filter(|value| *value <= low).fold(1e-3, f64::max);
    let above = all.clone().filter(|value| *value > high.max(low)).fold(1e9, f64::min);
    all.filter(|value| (below..=above).contains(value)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_enclose_what_they_show() {
        assert_eq!(round_values([12.0, 180.0].into_iter()), [10.0, 20.0, 50.0, 100.0, 200.0]);
        assert_eq!(round_values([2.0, 5.0].into_iter()), [2.0, 5.0, 10.0]);
    }

    #[test]
    fn zero_has_a_place() {
        let scale = Scale::logarithmic([0.0, 64.0, 1024.0].into_iter(), 0.0, 3.0);
        assert_eq!([0.0, 64.0, 1024.0].map(|value| scale.place(value)), [0.0, 1.0, 3.0]);
    }
}
