//! The recovery sheet of a destination: all that somebody needs who has nothing else.

use bdr::base::path::shell_word;
use bdr::model::config::Remote;
use bdr::remote::crypt::{Generated, SHEET};
use bdr::remote::ledger::Machine;

use crate::app::context::Context;
use crate::app::remotes::directory;
use crate::app::secrets::Note;
use crate::ui::qr::{self, Ink};
use crate::ui::{plural, when};

/// How many words are in a row.
const ROW: usize = 4;

/// Returns the sheet for keys of a destination. It has their secret halves: it goes to a person, and
/// nowhere else.
pub(super) fn text(cx: &Context, remote: &Remote, keys: &[&Generated], ink: Ink) -> String {
    let mut text = format!(
        "{SHEET} for {}, {}\n\n",
        remote.name,
        when::utc(cx.now).chars().take(10).collect::<String>()
    );
    text.push_str(
        "Whoever has this sheet can read what is pushed to the destination below. Without\n\
         the key on it nobody can, you included: keep it apart from this machine, on\n\
         paper or in a password manager.\n\n",
    );
    text.push_str(&format!("  destination  {}\n", remote.url));
    text.push_str(&format!("  machine      {}", cx.host));
    let machine = machine(cx);
    match &machine {
        Some(machine) => text.push_str(&format!(", {}\n", machine.id)),
        None => text.push('\n'),
    }
    for (number, key) in keys.iter().enumerate() {
        if keys.len() > 1 {
            text.push_str(&format!("\nKEY {} OF {}\n", number + 1, keys.len()));
        }
        text.push_str(&one(key, ink));
    }
    if let Some((machine, signer)) = machine.and_then(|one| Some((one.id, one.signer()?))) {
        text.push_str(&format!(
            "\nWhat this machine pushes is signed. bdr and Python believe nothing else, if\n\
             the file with the key has this line as well:\n\n{}\n",
            signer.of_machine(machine)
        ));
    }
    text.push_str(&back(cx, remote, keys));
    text
}

/// Returns who this machine is at destinations, if it has a repository.
fn machine(cx: &Context) -> Option<Machine> {
    let id = bdr::repo::id_at(&cx.places.repository)?;
    Machine::of(&directory(cx, id), cx.now).ok()
}

fn one(key: &Generated, ink: Ink) -> String {
    let words = key.words();
    let mut text = format!(
        "  opens        what is for {}\n\nThe secret key:\n\n{}\n\nThe same in {}, to write down\n({}):\n\n",
        key.recipient,
        *key.secret,
        plural(words.len() as u64, "word"),
        "BIP-39; the first four letters of each are enough"
    );
    for (row, four) in words.chunks(ROW).enumerate() {
        let cells = four.iter().enumerate();
        let cells = cells.map(|(at, word)| format!("{:>4}. {word:<9}", row * ROW + at + 1));
        let line: String = cells.collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if let Some(code) = qr::draw(&key.secret, ink) {
        text.push_str("\nThe same for a camera:\n");
        text.push_str(&code.join("\n"));
        text.push('\n');
    }
    text
}

/// Returns the commands that bring everything back.
fn back(cx: &Context, remote: &Remote, keys: &[&Generated]) -> String {
    let mut text = format!(
        "\nTO GET EVERYTHING BACK, on any machine\n\
         \n\
         Write the secret key into a file, below called key.txt. For bdr and Python the\n\
         words will do as well, and so will this sheet as a file. The credentials of the\n\
         place (user, password, access key) are not on this sheet.\n\
         \n\
         With bdr:\n\
         \n    \
             bdr clone {} --identity key.txt\n    \
             bdr restore latest\n\
         \n\
         Without bdr, first download the directory\n\
         bdr1/{}\n\
         of the destination, whole, and run the commands in it; its RECOVER.md says more.\n\
         \n\
         With Python 3.8 or newer:\n\
         \n    \
             python3 recover.py --identity key.txt list\n    \
             python3 recover.py --identity key.txt restore latest ~/recovered\n\
         \n\
         The last full backup, with age and tar (from words, the key is made by\n\
         python3 recover.py --identity words.txt key > key.txt):\n\n",
        shell_word(&remote.url),
        machine(cx).map_or_else(|| "MACHINE".to_owned(), |machine| machine.id.to_string()),
    );
    let leads = |recipients: &[String]| keys.iter().any(|key| recipients.contains(&key.recipient));
    for one in Note::read(cx, &remote.name).identities {
        if leads(&one.recipients) {
            text.push_str(&format!(
                "    age -d -i key.txt -o older.txt {} && cat older.txt >> key.txt\n",
                one.name
            ));
        }
    }
    text.push_str(
        "    mkdir -p ~/recovered\n    \
             list=$(ls fulls/*.txt | tail -n 1)\n    \
             while read -r parts; do\n        \
                 for part in $parts; do age -d -i key.txt \"./$part\"; done | tar xz -C ~/recovered\n    \
             done < \"$list\"\n",
    );
    text
}
