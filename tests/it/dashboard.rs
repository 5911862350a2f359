//! The dashboard says what `bdr status` says, in one colour and with one sign, and its charts can be read.

use serde_json::Value;

use crate::care::scheduled;
use crate::support::Place;

#[track_caller]
fn page(place: &Place, now: &str, more: &[&str]) -> String {
    let args = [&["dashboard", "--output", "-"], more].concat();
    String::from_utf8(place.run_at(now, &args, 0).stdout).unwrap()
}

/// Returns the first sentence with its class and its sign.
fn hero(html: &str) -> (String, String, String) {
    let header = html.split("<header class=\"").nth(1).unwrap();
    let class = header.split('"').next().unwrap().to_owned();
    let h1 = header.split("<h1>").nth(1).unwrap();
    let h1 = h1.split("</h1>").next().unwrap();
    let mut texts = h1.split('>').filter_map(|part| part.split('<').next());
    let mut next = || texts.find(|text| !text.is_empty()).unwrap().to_owned();
    let (sign, sentence) = (next(), next());
    (class, sign, sentence)
}

#[test]
fn sentence_colour_and_sign_are_those_of_status() {
    let place = scheduled();
    place.tick("2026-11-02T03:00:00Z");
    let expect = |now: &str, level: &str, sign: &str, begin: &str| {
        let status = place.json_at(now, &["status"], 0);
        let html = page(&place, now, &[]);
        let (class, shown, sentence) = hero(&html);
        assert_eq!((&*class, &*shown), (level, sign), "{sentence}");
        assert_eq!(Value::from(sentence.clone()), status["sentence"]);
        assert_eq!(status["level"], level);
        assert!(sentence.starts_with(begin), "{sentence}");
        html
    };
    let now = "2026-11-02T06:00:00Z";
    // Nothing wakes bdr here.
    let warned = "Protected, with 1 warning. Last backup";
    expect(now, "warning", "!", warned);
    // A budget that is nearly used up is a warning, in words as well.
    place.run_at(now, &["config", "set", "retention.max_size", "100K"], 0);
    let html = expect(
        now,
        "warning",
        "!",
        "Protected, with 2 warnings. Last backup",
    );
    assert!(html.contains("of the storage budget is used"));
    place.run_at(now, &["config", "set", "retention.max_size", "auto"], 0);
    let html = expect(
        "2026-11-09T06:00:00Z",
        "critical",
        "✗",
        "Not protected: last backup",
    );
    // No card says the contrary.
    let card = html.split("Last backup</b>").next().unwrap();
    let card = card.rsplit("<div>").next().unwrap();
    assert!(card.contains("class=\"sign critical\""), "{card}");
}

#[test]
fn charts_have_units_and_dates_and_marks_beside_colours() {
    let place = scheduled();
    let noise: Vec<u8> = (0..60_000_u32).map(|n| ((n * n) >> 7) as u8).collect();
    for day in 2..9 {
        place.write("noise", &noise[day * 5000..]);
        place.tick(&format!("2026-11-0{day}T03:00:00Z"));
    }
    let html = page(&place, "2026-11-08T06:00:00Z", &[]);
    let chart = html.split("class=\"chart\"").nth(1).unwrap();
    let chart = chart.split("</svg>").next().unwrap();
    assert!(
        chart.contains(">0 B<") && chart.contains(" KiB<"),
        "{chart}"
    );
    assert!(
        chart.contains(">2026-11-01<") && chart.contains(">2026-11-08<"),
        "{chart}"
    );
    // What a square means is said by more than its colour.
    assert!(
        html.contains("<title>2026-11-07: 1 backup</title>"),
        "{html}"
    );
    let legend = html.split("class=\"legend\"").nth(1).unwrap();
    assert_eq!(legend.matches("class=\"mark\"").count(), 2, "{legend}");
    assert!(html.contains("width=device-width") && html.contains("max-width:600px"));
    for outside in ["http://", "https://", "<script", "@import", "url(h"] {
        assert!(!html.contains(outside), "{outside}");
    }
}

#[test]
fn what_is_not_covered_and_what_is_damaged_is_there() {
    let place = scheduled();
    std::fs::create_dir_all(place.path("home/letters")).unwrap();
    std::fs::write(place.path("home/letters/a"), "x").unwrap();
    place.tick("2026-11-02T03:00:00Z");
    let now = "2026-11-02T06:00:00Z";
    let html = page(&place, now, &[]);
    assert!(
        html.contains("1 directory of your home is in no source") && !html.contains("letters"),
        "{html}"
    );
    assert!(page(&place, now, &["--show-paths"]).contains("~/letters"));
    let (_, _, sentence) = hero(&html);
    assert!(
        sentence.starts_with("Protected: 1 place, with 1 warning. "),
        "{sentence}"
    );
    assert!(html.contains("none found"), "{html}");
    // A pack is gone.
    let packs = walkdir::WalkDir::new(place.store().join("packs"));
    for pack in packs.into_iter().flatten() {
        if pack.file_type().is_file() {
            std::fs::remove_file(pack.path()).unwrap();
        }
    }
    let html = page(&place, now, &[]);
    let card = html.split("Damage</b>").nth(1).unwrap();
    let card = card.split("</div></div>").next().unwrap();
    assert!(
        card.contains("1 file of the last backup is damaged"),
        "{card}"
    );
    assert!(!html.contains("none found"));
    assert_eq!(hero(&html).0, "critical");
}
