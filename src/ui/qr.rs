//! QR codes in text.

use qrcodegen::{QrCode, QrCodeEcc};

/// Modules of light around it, without which readers do not find it (ISO/IEC 18004).
const QUIET: i32 = 4;

/// How to draw one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ink {
    /// Half blocks: dark ones are printed. For paper, and files that are printed.
    Print,
    /// The same, and the terminal is told to show black on white.
    Terminal,
    /// Two signs of ASCII for each module.
    Ascii,
}

/// Draws a QR code of a text, in lines; `None` if the text is too long.
pub(crate) fn draw(text: &str, ink: Ink) -> Option<Vec<String>> {
    let code = QrCode::encode_text(text, QrCodeEcc::Medium).ok()?;
    let range = || -QUIET..code.size() + QUIET;
    let row = |y: i32| -> String {
        let sign = |x: i32| match (ink, code.get_module(x, y), code.get_module(x, y + 1)) {
            (Ink::Ascii, true, _) => "##",
            (Ink::Ascii, false, _) => "  ",
            (_, true, true) => "█",
            (_, true, false) => "▀",
            (_, false, true) => "▄",
            (_, false, false) => " ",
        };
        let signs: String = range().map(sign).collect();
        match ink {
            Ink::Terminal => format!("\x1b[30;107m{signs}\x1b[0m"),
            // Nothing has to be printed for what is light.
            _ => signs.trim_end().to_owned(),
        }
    };
    let step = if ink == Ink::Ascii { 1 } else { 2 };
    Some(range().step_by(step).map(row).collect())
}
