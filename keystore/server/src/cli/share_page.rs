//! A share for paper: a page to print, and a code to photograph.
//!
//! The code holds the share in capitals without dashes, which QR writes most densely; reading a share takes any case.

use std::fmt::Write;

use anyhow::Context;
use qrcode::render::unicode::Dense1x2;
use qrcode::{Color, EcLevel, QrCode};
use zeroize::Zeroizing;

use super::hand_out::Opens;

/// A4, in tenths of millimetres.
const WIDTH: usize = 2100;
const HEIGHT: usize = 2970;
const CODE_WIDTH: usize = 800;
const GROUPS_PER_LINE: usize = 7;

/// What stands around a share.
pub(super) struct Page<'a> {
    pub(super) number: u8,
    pub(super) count: usize,
    pub(super) holder: &'a str,
    pub(super) opens: &'a Opens,
}

impl Page<'_> {
    pub(super) fn title(&self) -> String {
        format!(
            "share {} of {} for {} (epoch {}, keystore {})",
            self.number, self.count, self.holder, self.opens.epoch, self.opens.cluster
        )
    }

    /// One page. Names, numbers and shares hold no character that XML takes for its own.
    pub(super) fn svg(&self, share: &str) -> anyhow::Result<Zeroizing<String>> {
        let mut svg = Zeroizing::new(String::with_capacity(128 << 10));
        let opens = self.opens;
        write!(
            svg,
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="210mm" height="297mm" viewBox="0 0 {WIDTH} {HEIGHT}">
<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>
<g font-family="sans-serif" font-size="48">
<text x="200" y="300" font-size="90">Holdfast keystore: share {} of {}</text>
<text x="200" y="420">Holder: {}</text>
<text x="200" y="490">Keystore {}, epoch {}</text>
<text x="200" y="560">{} different holders open the keystore together.</text>
<text x="200" y="630">Keep this page where nobody else can see it.</text>
"##,
            self.number, self.count, self.holder, opens.cluster, opens.epoch, opens.threshold
        )?;
        svg.push_str("</g>\n<g font-family=\"monospace\" font-size=\"76\">\n");
        let groups: Vec<&str> = share.split('-').collect();
        for (line, groups) in groups.chunks(GROUPS_PER_LINE).enumerate() {
            let y = 820 + line * 120;
            write!(svg, "<text x=\"200\" y=\"{y}\" xml:space=\"preserve\">")?;
            for (place, group) in groups.iter().enumerate() {
                let between = if place == 0 { "" } else { "  " };
                write!(svg, "{between}{group}")?;
            }
            svg.push_str("</text>\n");
        }
        svg.push_str("</g>\n");
        draw_code(&mut svg, share)?;
        svg.push_str("</svg>\n");
        Ok(svg)
    }
}

/// The code for a dark terminal, which most are; on a light one it is inverted, which most readers take, too.
pub(super) fn qr_in_half_blocks(share: &str) -> anyhow::Result<Zeroizing<String>> {
    let code = code(share)?;
    let drawn = code
        .render::<Dense1x2>()
        .dark_color(Dense1x2::Light)
        .light_color(Dense1x2::Dark)
        .build();
    Ok(Zeroizing::new(drawn + "\n"))
}

fn draw_code(svg: &mut String, share: &str) -> anyhow::Result<()> {
    let code = code(share)?;
    let modules = code.width();
    let scale = CODE_WIDTH as f64 / modules as f64;
    write!(
        svg,
        "<path transform=\"translate(650 1350) scale({scale:.4})\" d=\""
    )?;
    for (place, color) in code.to_colors().iter().enumerate() {
        if *color == Color::Dark {
            write!(svg, "M{} {}h1v1h-1z", place % modules, place / modules)?;
        }
    }
    svg.push_str("\"/>\n");
    Ok(())
}

fn code(share: &str) -> anyhow::Result<QrCode> {
    let mut plain = Zeroizing::new(String::with_capacity(share.len()));
    let kept = share.chars().filter(|c| *c != '-');
    plain.extend(kept.map(|c| c.to_ascii_uppercase()));
    QrCode::with_error_correction_level(plain.as_bytes(), EcLevel::M)
        .context("the share cannot be drawn as a QR code")
}
