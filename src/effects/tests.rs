use std::path::Path;

use super::*;

fn around() -> Surroundings<'static> {
    Surroundings {
        cwd: Path::new("/w"),
        home: Some(Path::new("/home/u")),
        table: Table::builtin(),
    }
}

fn of(line: &str) -> Assessment {
    assess_line(line, &around())
}

fn paths(line: &str) -> Vec<String> {
    let operands = of(line).operands;
    let shown = operands.iter().map(|o| o.path.display().to_string());
    shown.collect()
}

#[test]
fn the_built_in_table_is_read_whole() {
    let lines = include_str!("rules.txt").lines();
    let rules = lines.filter(|l| {
        !l.is_empty() && !l.starts_with('#') && !l.starts_with("values ") && !l.starts_with("wrap ")
    });
    assert_eq!(Table::builtin().len(), rules.count());
    assert!(Table::builtin().len() > 80);
}

#[test]
fn a_wrong_rule_is_named() {
    for (text, line, reason) in [
        ("\nx | read | y", 2, "a rule is"),
        ("x | harmless | y | | ", 1, "`harmless` is no effect"),
        ("x | read | y | {draws} | ", 1, "no condition"),
        ("x | read | y | [-a | ", 1, "not closed"),
        ("x | write | y | | everything", 1, "names no operands"),
        ("wrap | y | -a | many", 1, "no number"),
    ] {
        let error = Table::default().with(text).unwrap_err();
        assert_eq!(error.line, line, "{text}");
        assert!(error.reason.contains(reason), "{text}: {}", error.reason);
    }
}

#[test]
fn rules_of_the_user_come_first() {
    let table = Table::builtin()
        .with("my.wipe | destructive | wipe | | args\nmy.ls | unknown | ls | [--purge] | cwd")
        .unwrap();
    let around = Surroundings {
        table: &table,
        ..around()
    };
    assert_eq!(assess_line("wipe a", &around).rule, "my.wipe");
    assert_eq!(assess_line("ls --purge", &around).effect, Effect::Unknown);
    assert_eq!(assess_line("ls", &around).effect, Effect::Read);
}

#[test]
fn commands_have_the_effect_they_have() {
    use Effect::{
        Destructive as D, GitDiscard as G, Read as R, Remote as X, Unknown as U, Write as W,
    };
    let mut wrong: Vec<String> = Vec::new();
    for (line, effect) in [
        // Reading.
        ("ls -la; cat x | grep y && pwd", R),
        ("echo 'rm -rf /'", R),
        ("grep -rn 'git clean -f' src", R),
        ("git status && git diff HEAD~1 -- a", R),
        ("git log --oneline | head -5", R),
        ("git clean -n", R),
        ("git clean -dn", R),
        ("git stash list", R),
        ("git branch", R),
        ("git branch -a", R),
        ("git -C d --no-pager log", R),
        ("2>/dev/null ls", R),
        ("ls > /dev/null 2>&1", R),
        ("LC_ALL=C sort a", R),
        ("sed -n p f", R),
        ("sed -n '1,20p' f", R),
        ("sed 's/a/b/g' f", R),
        ("awk '{print $1}' f", R),
        ("find . -name '*.o'", R),
        ("find . -name '*.o' -exec grep -l x {} +", R),
        ("cd a && ls", R),
        ("[ -f a ] && cat a", R),
        ("[[ -f a ]] && cat a", R),
        ("if test -f a; then cat a; fi", R),
        ("for f in a b; do echo $f; done", R),
        ("cat <<'EOF'\nrm -rf /\nEOF", R),
        ("timeout 5 ls", R),
        ("/usr/bin/cat a", R),
        ("command -v rm", R),
        ("rsync -n a b", R),
        ("file a", R),
        ("tar -tf a.tar", R),
        ("jq . a.json", R),
        ("xargs < list", R),
        ("bdr guard -- rm x", R),
        ("true", R),
        ("", R),
        // Removing and overwriting.
        ("rm -rf a b", D),
        ("FOO=1 sudo -u x rm -rf \"my dir\"/a*", D),
        ("cat <<EOF > /etc/passwd; rm -rf ~\nx\nEOF", D),
        ("echo $(rm -rf `pwd`/z) > out", D),
        ("(cd a && \\rm -rf b) | tee x & wait", D),
        ("r''m -rf x; $'rm' y", D),
        ("> f", D),
        (": > f", D),
        ("echo x >> f", W),
        ("ls | tee -a f", W),
        ("ls | tee f", D),
        ("sed -i.bak s/a/b/ f", D),
        ("sed -ni p f", D),
        ("sort -o f f", D),
        ("find . -name '*.o' -delete", D),
        ("find . -name '*.o' -print0 | xargs -0 rm -f", D),
        ("find . -exec rm {} +", D),
        ("mv a b", D),
        ("cp a b", D),
        ("dd if=/dev/zero of=f", D),
        ("truncate -s 0 f", D),
        ("tar xf a.tar -C d", D),
        ("busybox rm f", D),
        ("/bin/rm f", D),
        ("env -u A B=1 rm f", D),
        ("timeout -s KILL 5 rm f", D),
        ("nice -n 5 rm f", D),
        ("bash -c 'rm -rf x'", D),
        ("bash -lc \"rm -rf x\"", D),
        ("sh -c \"sh -c 'rm x'\"", D),
        ("eval rm x", D),
        ("bash <<EOF\nrm x\nEOF", D),
        ("npx -y rimraf x", D),
        ("claude mcp remove foo", D),
        ("mcp uninstall foo", D),
        ("npm uninstall x", D),
        ("sqlite3 a.db 'drop table x'", D),
        ("while read f; do rm \"$f\"; done < list", D),
        ("case x in a) rm a;; esac", D),
        ("f() { rm a; }; f", D),
        // git.
        ("bash -c 'rm -rf x; git clean -fdx'", G),
        ("git clean -fdx", G),
        ("git checkout f", G),
        ("git checkout -- .", G),
        ("git -C d reset --hard", G),
        ("git stash", G),
        ("git stash drop", G),
        ("git branch -D x", G),
        ("git worktree remove --force x", G),
        (
            "git reflog expire --expire=now --all && git gc --prune=now",
            G,
        ),
        ("git commit -m 'git reset --hard'", W),
        ("git commit -F - <<'EOF'\ngit reset --hard\nEOF", W),
        // Acting elsewhere.
        ("git push --force", X),
        ("git push", W),
        ("docker volume rm x", X),
        ("terraform destroy", X),
        ("kubectl delete ns x", X),
        ("psql -c 'drop table x'", X),
        ("aws s3 rm s3://x --recursive", X),
        // Unknown.
        ("npm run clean", U),
        ("make clean", U),
        ("./ls", U),
        ("$CMD x", U),
        ("git -c core.fsmonitor='rm -rf x' status", U),
        ("git -c core.pager=rm log", U),
        ("tar -tf a --checkpoint-action=exec=rm", D),
        ("rg --pre rm x", U),
        // A file may be called `--output=a`, or a variable may contain it.
        ("git log *", U),
        ("git log -- src/*.c", R),
        ("git diff $X", U),
        ("cargo metadata", U),
        ("yq -s .a f", D),
        ("python -c \"import shutil; shutil.rmtree('x')\"", U),
        ("bash script.sh", U),
        ("rm -rf [unclosed \"q", U),
        ("source x", U),
        ("PAGER=rm git log", U),
        ("sed 'w out' f", U),
        ("awk '{print > \"f\"}' f", U),
        ("find . -exec sh x {} \\;", D),
        ("ls() { rm a; }; ls", D),
    ] {
        let found = of(line);
        if found.effect != effect {
            let (got, rule, reason) = (found.effect, found.rule, found.reason);
            wrong.push(format!(
                "{line}: {got:?}, not {effect:?} ({rule}: {reason})"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn operands_are_where_the_command_would_look() {
    for (line, expected) in [
        ("rm -rf a /b", vec!["/b", "/w/a"]),
        ("rm -- -x", vec!["/w/-x"]),
        ("cd sub && rm a", vec!["/w/sub/a"]),
        ("(cd sub; rm a); rm b", vec!["/w/b", "/w/sub/a"]),
        ("cd sub & rm a", vec!["/w/a"]),
        ("cd \"$X\" && rm a /b", vec!["/b"]),
        (
            "rm ~/x \"$HOME/y\" '$HOME/z'",
            vec!["/home/u/x", "/home/u/y", "/w/$HOME/z"],
        ),
        ("rm \"$D\"/x", vec![]),
        ("rm '*.c'", vec!["/w/*.c"]),
        ("echo x > out 2> err", vec!["/w/err", "/w/out"]),
        ("dd if=a of=b", vec!["/w/b"]),
        ("cp a b c", vec!["/w/c"]),
        ("cp -t d a b", vec!["/w/b", "/w/d"]),
        ("git -C d checkout -- f", vec!["/w/d", "/w/d/f"]),
        (
            "claude config x",
            vec![
                "/home/u/.claude.json",
                "/home/u/.claude/settings.json",
                "/home/u/.claude/settings.local.json",
                "/w/.claude/settings.json",
                "/w/.claude/settings.local.json",
                "/w/.mcp.json",
            ],
        ),
        ("sort -oout in", vec!["/w/out"]),
        ("frob --out=x y", vec!["/w/--out=x", "/w/x", "/w/y"]),
    ] {
        let mut found = paths(line);
        found.sort();
        assert_eq!(found, expected, "{line}");
    }
}

#[test]
fn patterns_stay_patterns_and_quotes_make_them_names() {
    let globs = |line: &str| -> Vec<bool> { of(line).operands.iter().map(|o| o.glob).collect() };
    assert_eq!(globs("rm *.c"), [true]);
    assert_eq!(globs("rm '*.c' \"?\" \\[a"), [false, false, false]);
    let argv = ["rm".into(), "*.c".into()];
    assert!(!assess(&argv, &around()).operands[0].glob);
}

#[test]
fn braces_are_expanded_as_bash_does() {
    let lines = [
        "rm a{b,c}d",
        "rm {1..3} {3..1} {a..e..2} {10..1..4} {-2..2}",
        "rm x{,.bak} {a,b}{c,d} {a,{b,c}x}y",
        "rm \"{a,b}\" '{a,b}' \\{a,b} {a} {} {a,b a{b",
        "rm \"q\"{a,b} {\"a,b\",c}",
        "rm ${HOME}/{a,b}",
    ];
    for line in lines {
        let words = std::process::Command::new("bash")
            .env("HOME", "/home/u")
            .args(["-c", &format!("printf '%s\\n' {}", &line[3..])])
            .output();
        let Ok(words) = words else {
            eprintln!("SKIPPED: no bash");
            return;
        };
        let text = String::from_utf8(words.stdout).unwrap();
        let mut wanted: Vec<String> = text
            .lines()
            .map(|word| Path::new("/w").join(word).display().to_string())
            .filter(|path| path != "/w/-2" && path != "/w/-1")
            .collect();
        wanted.sort();
        wanted.dedup();
        let mut found = paths(line);
        found.sort();
        assert_eq!(found, wanted, "{line}");
    }
    // Beyond the limits nothing is guessed.
    for line in [
        "rm {1..99999999999999999999}",
        "rm {1..5000}",
        "rm {01..10}",
        "rm {{{{{{{{{a,b}",
    ] {
        let found = of(line);
        assert_eq!(found.operands, of("rm \"$x\"").operands, "{line}");
        assert!(!found.unlinks_only, "{line}");
    }
}

#[test]
fn what_a_variable_was_set_to_is_captured_as_well() {
    for (line, wanted) in [
        ("D=/data/x; rm -rf \"$D\"", "/data/x"),
        ("D=/data; E=$D/sub && rm -rf ${E}/a", "/data/sub/a"),
        (
            "for f in /data/*.log /logs/a; do rm \"$f\"; done",
            "/data/*.log /logs/a",
        ),
        (
            "for d in {a,b}; do rm -r /data/$d/x; done",
            "/data/a/x /data/b/x",
        ),
        ("F=out.txt; echo x > $F", "/w/out.txt"),
        ("D=/data/x; D=/other; rm -r $D", "/other"),
        ("D=/data/x ls; rm -r $D", ""),
        ("D=$(pwd); rm -r $D", ""),
        ("X=1; rm $(cat list)", ""),
    ] {
        let found = of(line);
        let named: Vec<String> = found
            .operands
            .iter()
            .filter(|operand| operand.itself)
            .map(|operand| operand.path.display().to_string())
            .collect();
        assert_eq!(named.join(" "), wanted, "{line}");
        // It is a guess, so nothing relies on it.
        assert!(!found.unlinks_only, "{line}");
    }
}

#[test]
fn only_what_only_unlinks_is_said_to() {
    assert!(of("rm -rf a b").unlinks_only);
    assert!(of("cd x && rm -r a").unlinks_only);
    for line in [
        "shred a",
        "rm a; mv b c",
        "rm $X",
        "rm *.c",
        "ls",
        "find . -delete",
    ] {
        assert!(!of(line).unlinks_only, "{line}");
    }
}

#[test]
fn remote_parts_are_named() {
    assert_eq!(
        of("cd a; git push -f origin main; ls").remote,
        ["git push -f origin main"]
    );
}

/// Effect, rule and paths of a line, with `-` for none.
fn told(dialect: Dialect, line: &str) -> (Effect, String, String) {
    let found = assess_line_in(dialect, line, &around());
    let paths = found.operands.iter().map(|o| match o.place {
        true => format!("@{}", o.path.display()),
        false => o.path.display().to_string(),
    });
    let paths: Vec<String> = paths.collect();
    (found.effect, found.rule, paths.join(" "))
}

#[test]
fn lines_of_powershell_are_understood() {
    use Effect::{Destructive, Read, Remote, Unknown, Write};
    let mut wrong = Vec::new();
    for (line, effect, rule, paths) in [
        ("Get-ChildItem -Recurse *.log", Read, "ps.read", ""),
        (
            "gci . | Where-Object { $_.Length -gt 5kb } | Select-Object Name",
            Read,
            "",
            "",
        ),
        (
            "Get-Content a.txt | Measure-Object -Line",
            Read,
            "ps.read",
            "",
        ),
        ("Test-Path .\\x; Write-Host 'rm -rf /'", Read, "ps.read", ""),
        (
            "Remove-Item -Recurse -Force .\\build",
            Destructive,
            "ps.remove",
            "/w/build",
        ),
        (
            "remove-item build, dist -rec -fo",
            Destructive,
            "ps.remove",
            "/w/build /w/dist",
        ),
        ("rm -r build", Destructive, "ps.remove", "/w/build"),
        (
            "ri -LiteralPath 'it''s [1]'",
            Destructive,
            "ps.remove",
            "/w/it's [1]",
        ),
        ("del -Path:x -WhatIf", Read, "ps.read", ""),
        ("rd /w/build -WhatI", Read, "ps.read", ""),
        (
            "Get-ChildItem *.tmp | Remove-Item",
            Destructive,
            "ps.remove",
            "@/w",
        ),
        (
            "gci | % { Remove-Item $_.FullName }",
            Destructive,
            "ps.remove",
            "@/w",
        ),
        (
            "foreach ($f in Get-ChildItem) { del old.txt }",
            Destructive,
            "ps.remove",
            "/w/old.txt",
        ),
        (
            "if (Test-Path x) { ri x } else { ni x }",
            Destructive,
            "ps.remove",
            "/w/x /w/x",
        ),
        (
            "Set-Content notes.md \"new `\"text`\"\"",
            Destructive,
            "ps.write",
            "/w/notes.md",
        ),
        (
            "sc -Path notes.md -Value 'x'",
            Destructive,
            "ps.write",
            "/w/notes.md",
        ),
        (
            "Clear-Content log.txt",
            Destructive,
            "ps.write",
            "/w/log.txt",
        ),
        ("Add-Content log.txt line", Write, "ps.write", "/w/log.txt"),
        (
            "Get-Date | Out-File now.txt",
            Destructive,
            "ps.write",
            "/w/now.txt",
        ),
        (
            "Get-Date | Out-File now.txt -Append",
            Write,
            "ps.write",
            "/w/now.txt",
        ),
        (
            "Get-Date > now.txt",
            Destructive,
            "sh.redirect",
            "/w/now.txt",
        ),
        ("Get-Date >> now.txt", Write, "sh.redirect", "/w/now.txt"),
        ("Get-Date 2>&1 > $null", Read, "ps.read", ""),
        (
            "Get-Date *> all.txt",
            Destructive,
            "sh.redirect",
            "/w/all.txt",
        ),
        ("Move-Item a b", Destructive, "ps.move", "/w/a /w/b"),
        (
            "mv a -Destination sub\\b",
            Destructive,
            "ps.move",
            "/w/a /w/sub/b",
        ),
        (
            "Rename-Item -Path a -NewName b",
            Destructive,
            "ps.move",
            "/w/a /w/b",
        ),
        ("Copy-Item a b -Force", Destructive, "ps.copy", "/w/b"),
        ("cp a -Destination b", Destructive, "ps.copy", "/w/b"),
        ("New-Item x -ItemType File", Write, "ps.write", "/w/x"),
        ("ni x -Force", Destructive, "ps.write", "/w/x"),
        (
            "Expand-Archive a.zip out",
            Destructive,
            "ps.expand",
            "/w/out",
        ),
        ("cd sub; rm a", Destructive, "ps.remove", "/w/sub/a"),
        (
            "Set-Location ..; Remove-Item b",
            Destructive,
            "ps.remove",
            "/b",
        ),
        (
            "Remove-Item $HOME\\old",
            Destructive,
            "ps.remove",
            "/home/u/old",
        ),
        ("Remove-Item $x", Destructive, "ps.remove", "@/w"),
        (
            "Remove-Item \"$env:TEMP\\x\"",
            Destructive,
            "ps.remove",
            "@/w",
        ),
        (
            "$n = Get-Content a; Remove-Item b",
            Destructive,
            "ps.remove",
            "/w/b",
        ),
        ("Remove-Item C:\\Temp\\x", Destructive, "ps.remove", ""),
        ("# Remove-Item x", Read, "", ""),
        ("<# Remove-Item x #> Get-Date", Read, "ps.read", ""),
        (
            "Write-Output @'\nRemove-Item x\n'@\nGet-Date",
            Read,
            "ps.read",
            "",
        ),
        (
            "Write-Output \"$(Remove-Item x)\"",
            Destructive,
            "ps.remove",
            "/w/x",
        ),
        ("[IO.File]::Delete('x')", Unknown, "", ""),
        ("(Get-Item x).Delete()", Unknown, "", ""),
        ("Invoke-Expression $code", Unknown, "", ""),
        ("iex 'Remove-Item x'", Unknown, "", "/w/Remove-Item x"),
        ("Do-Something x", Unknown, "", "/w/x"),
        ("& $program x", Unknown, "", "/w/x"),
        (". .\\script.ps1", Unknown, "", "/w/script.ps1"),
        ("git push --force", Remote, "git.push", "@/w"),
        ("git status && git log", Read, "git.read", ""),
        ("cmd /c del x", Destructive, "cmd.del", "/w/x"),
        (
            "Start-Process cmd -ArgumentList '/c','del x' -Wait",
            Destructive,
            "cmd.del",
            "/w/x",
        ),
        (
            "powershell -NoProfile -Command \"Remove-Item x\"",
            Destructive,
            "ps.remove",
            "/w/x",
        ),
        ("pwsh -enc SQBFAFgA", Unknown, "", ""),
        ("Remove-Item 'x", Destructive, "ps.remove", "/w/x"),
        ("Format-Volume -DriveLetter D", Unknown, "", "/w/D"),
        ("gci | Format-Table Name", Read, "ps.read", ""),
        ("gci | % Delete", Unknown, "", "/w/Delete"),
        (
            "gci | ForEach-Object -MemberName Delete",
            Unknown,
            "",
            "/w/Delete",
        ),
        ("$f.IsReadOnly = $false", Unknown, "", ""),
        ("$env:PATH = 'x'; git status", Unknown, "", "/w/x"),
        ("$n = 5", Read, "", ""),
        ("sort -o f g", Destructive, "", "/w/f"),
        (
            "{ # it's\n } ; Remove-Item x # it's",
            Destructive,
            "ps.remove",
            "/w/x",
        ),
        ("{ '`' }; Remove-Item x", Destructive, "ps.remove", "/w/x"),
        ("rm ~\\x", Destructive, "ps.remove", "/home/u/x"),
        (
            "Remove-Item HKLM:\\Software\\x",
            Destructive,
            "ps.remove",
            "",
        ),
    ] {
        let found = told(Dialect::PowerShell, line);
        let known = rule.is_empty() || found.1 == rule;
        if !(found.0 == effect && known && found.2 == paths) {
            wrong.push(format!("{line}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn lines_of_the_command_processor_are_understood() {
    use Effect::{Destructive, Read, Remote, Unknown, Write};
    let mut wrong = Vec::new();
    for (line, effect, rule, paths) in [
        ("dir /s", Read, "cmd.read", ""),
        ("@echo off & type a.txt | findstr x", Read, "cmd.read", ""),
        ("echo del x", Read, "cmd.read", ""),
        ("rem del x", Read, "", ""),
        ("del /s /q *.log", Destructive, "cmd.del", "/w/*.log"),
        ("DEL x", Destructive, "cmd.del", "/w/x"),
        ("del \"a b\" c", Destructive, "cmd.del", "/w/a b /w/c"),
        ("rd /s /q build", Destructive, "cmd.del", "/w/build"),
        (
            "rmdir /s build\\sub",
            Destructive,
            "cmd.del",
            "/w/build/sub",
        ),
        ("move a b", Destructive, "cmd.move", "/w/a /w/b"),
        ("ren a b", Destructive, "cmd.move", "/w/a /w/b"),
        ("copy /y a b", Destructive, "cmd.copy", "/w/b"),
        ("xcopy a b /e", Destructive, "cmd.copy", "/w/b"),
        ("robocopy src dst /MIR", Destructive, "cmd.copy", "/w/dst"),
        (
            "robocopy src dst /MOVE",
            Destructive,
            "cmd.copy",
            "/w/dst /w/src",
        ),
        ("mkdir x", Write, "cmd.write", "/w/x"),
        ("echo x > a.txt", Destructive, "sh.redirect", "/w/a.txt"),
        ("echo x >> a.txt", Write, "sh.redirect", "/w/a.txt"),
        ("dir 2>&1 > nul", Read, "cmd.read", ""),
        ("type nul > a.txt", Destructive, "sh.redirect", "/w/a.txt"),
        ("cd /d sub && del x", Destructive, "cmd.del", "/w/sub/x"),
        ("if exist x del x", Destructive, "cmd.del", "/w/x"),
        (
            "if not exist x (del y) else (del z)",
            Destructive,
            "cmd.del",
            "/w/y /w/z",
        ),
        ("for %f in (*.log) do del x", Destructive, "cmd.del", "/w/x"),
        (
            "for /r %f in (a b) do (del x & del y)",
            Destructive,
            "cmd.del",
            "/w/x /w/y",
        ),
        ("call del x", Destructive, "cmd.del", "/w/x"),
        ("start /wait cmd /c del x", Destructive, "cmd.del", "/w/x"),
        ("del ^\"x", Destructive, "cmd.del", "/w/\"x"),
        ("del %TEMP%\\x", Destructive, "cmd.del", "@/w"),
        ("%PROGRAM% x", Unknown, "", "/w/x"),
        ("del C:\\x", Destructive, "cmd.del", ""),
        ("format d:", Remote, "cmd.disk", ""),
        ("build.bat x", Unknown, "", "/w/x"),
        ("cmd /c \"rd /s /q a\"", Destructive, "cmd.del", "/w/a"),
        (
            "powershell -Command Remove-Item x",
            Destructive,
            "ps.remove",
            "/w/x",
        ),
        ("git clean -fdx", Effect::GitDiscard, "git.clean", "@/w"),
        ("git.exe status", Read, "git.read", ""),
        ("echo \"x", Unknown, "", ""),
        ("echo %X%", Unknown, "", ""),
        ("assoc .x=y", Unknown, "", "/w/.x /w/y"),
        ("sort a.txt", Read, "cmd.read", ""),
        ("sort a.txt /o b.txt", Destructive, "cmd.write", "/w/b.txt"),
    ] {
        let found = told(Dialect::Cmd, line);
        let known = rule.is_empty() || found.1 == rule;
        if !(found.0 == effect && known && found.2 == paths) {
            wrong.push(format!("{line}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // From a POSIX shell too.
    assert_eq!(told(Dialect::Posix, "pwsh -c 'rm -r x'").1, "ps.remove");
    assert_eq!(told(Dialect::Posix, "cmd.exe /c 'del x'").1, "cmd.del");
}

#[test]
fn a_here_document_without_a_plain_name_does_not_keep_it_for_ever() {
    for line in [
        "cat <<'' ",
        "cat <<\"\" ",
        "rm x; cat << '' ",
        "cat <<-''; rm x",
        "cat <<''\"\"| x",
        "cat <<$'' ",
        "git(do if &&fi;then ($(<< ({<#clean~;-rf<#",
        " }EOFfifor <<$( <#for do ls[[^<#for *@' then ",
        "case <<$( <#case (if ",
    ] {
        assert_eq!(of(line).effect, Effect::Unknown, "{line:?}");
    }
    // With a name it is parsed as usual.
    for line in [
        "cat <<'E'\nrm x\nE\n",
        "cat <<-E\nrm x\n\tE\n",
        "cat << \"END\"\nrm x\nEND\n",
        "cat <<\\E\nrm x\nE\n",
        "cat <<<'' ",
        "cat <<<\"$x\"",
    ] {
        assert_eq!(of(line).effect, Effect::Read, "{line:?}");
    }
}

#[test]
fn no_input_makes_it_panic() {
    let long = "rm ".repeat(400_000);
    let deep = "(".repeat(5_000);
    let nested = "sh -c \"".repeat(50);
    for line in [
        &long[..],
        &deep,
        &nested,
        "\0",
        "rm \0",
        "'",
        "$(",
        "`",
        "<<",
        "<<E",
        "{",
        "((",
        "a=(",
        "${",
        "$((",
        "\u{202e}rm x",
    ] {
        for dialect in [Dialect::Posix, Dialect::PowerShell, Dialect::Cmd] {
            assert!(told(dialect, line).0 >= Effect::Read);
        }
    }
    let config = proptest::test_runner::Config {
        cases: 400,
        failure_persistence: None,
        ..Default::default()
    };
    const PIECES: [&str; 40] = [
        "@'", "@(", "%", "^", "<#", "for ", "rm", "ls", " ", "-rf", "'", "\"", "$(", ")", "`", "|",
        "&&", ";", ">", "<<", "EOF", "\n", "{", "}", "(", "*", "~", "$X", "git", "clean", "-", "=",
        "\\", "if ", "then ", "fi", "do ", "done", "case ", "[[",
    ];
    let strategy = proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..24);
    proptest::test_runner::TestRunner::new(config)
        .run(&strategy, |parts| {
            let line = parts.concat();
            let whole = of(&line);
            // More text never makes it safer.
            let more = of(&format!("rm x; {line}"));
            if whole.effect == Effect::Read {
                assert_ne!(more.effect, Effect::Read, "{line:?}");
            }
            for dialect in [Dialect::PowerShell, Dialect::Cmd] {
                let more = told(dialect, &format!("del x; y & del x\n{line}"));
                assert_ne!(more.0, Effect::Read, "{dialect:?} {line:?}");
            }
            Ok(())
        })
        .unwrap();
}
