//! Charts as pixels, for programs that show no SVG.

use std::sync::Arc;

use anyhow::{Context, ensure};
use resvg::{
    tiny_skia::{Pixmap, Transform},
    usvg::{
        Options, Tree,
        fontdb::{Database, Family, Query},
    },
};

/// Pixels for each of the chart's own, so that text stays sharp on dense screens.
const SCALE: f32 = 2.0;

/// The fonts of this system.
///
/// # Errors
///
/// There is none: a chart would be drawn without its text.
pub(crate) fn fonts() -> anyhow::Result<Arc<Database>> {
    let mut fonts = Database::new();
    fonts.load_system_fonts();
    with_sans_serif(fonts)
}

/// The fonts, one of which stands for what charts ask for, by no other name than `sans-serif`.
fn with_sans_serif(mut fonts: Database) -> anyhow::Result<Arc<Database>> {
    let sans_serif = Query {
        families: &[Family::SansSerif],
        ..Query::default()
    };
    if fonts.query(&sans_serif).is_none() {
        let families = fonts
            .faces()
            .filter_map(|face| Some(&face.families.first()?.0));
        let families: Vec<&String> = families.collect();
        let usual = ["Helvetica", "Liberation Sans", "DejaVu Sans", "Noto Sans"];
        let usual = families.iter().find(|it| usual.contains(&it.as_str()));
        let family = usual.or(families.first()).context(
            "no font is installed, so that charts as PNG would lack their text; install one \
             (on Debian: apt-get install fonts-dejavu-core), or leave png out of --format",
        )?;
        let family = family.to_string();
        fonts.set_sans_serif_family(family);
    }
    Ok(Arc::new(fonts))
}

/// A chart as a PNG file, in its light colours.
///
/// # Errors
///
/// It is no SVG, or has no size.
pub(crate) fn encode(svg: &str, fonts: &Arc<Database>) -> anyhow::Result<Vec<u8>> {
    let options = Options {
        fontdb: Arc::clone(fonts),
        ..Options::default()
    };
    let tree = Tree::from_str(svg, &options)?;
    let size = tree.size().to_int_size().scale_by(SCALE);
    let size = size.context("the chart has no size")?;
    let mut pixels = Pixmap::new(size.width(), size.height()).context("the chart is too large")?;
    let scale = Transform::from_scale(SCALE, SCALE);
    resvg::render(&tree, scale, &mut pixels.as_mut());
    let png = pixels.encode_png()?;
    ensure!(!png.is_empty(), "the chart has no pixels");
    Ok(png)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_system_without_fonts_is_an_error() {
        let error = with_sans_serif(Database::new()).unwrap_err().to_string();
        assert!(error.starts_with("no font is installed"), "{error}");
    }

    #[test]
    fn a_chart_has_twice_its_size_and_its_colours() {
        let svg = "<svg width=\"3\" height=\"2\" viewBox=\"0 0 3 2\" \
                   xmlns=\"http://www.w3.org/2000/svg\">\
                   <rect width=\"3\" height=\"2\" fill=\"#0072B2\"/></svg>";
        let png = encode(svg, &Arc::new(Database::new())).unwrap();
        let pixels = Pixmap::decode_png(&png).unwrap();
        assert_eq!((pixels.width(), pixels.height()), (6, 4));
        let colours = pixels.pixels().iter().map(|it| it.demultiply());
        for colour in colours {
            assert_eq!(
                [colour.red(), colour.green(), colour.blue(), colour.alpha()],
                [0x00, 0x72, 0xB2, 0xFF]
            );
        }
    }

    #[test]
    fn what_is_no_chart_is_an_error() {
        assert!(encode("<svg", &Arc::new(Database::new())).is_err());
    }
}
