//! Numbers for people.

/// Returns a size for people, in IEC units.
pub fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if value >= 100.0 {
        format!("{value:.0} {}", UNITS[unit - 1])
    } else {
        format!("{value:.1} {}", UNITS[unit - 1])
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn sizes_read_well() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (50_542_313, "48.2 MiB"),
            (227_633_266_688, "212 GiB"),
        ] {
            assert_eq!(super::size(bytes), text);
        }
    }
}
