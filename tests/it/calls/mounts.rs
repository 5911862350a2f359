//! Capture where a command sees other mounts than bdr, or makes some.

use super::faults::{is_root, skipped, works};
use super::*;

#[test]
fn what_a_sandbox_sees_elsewhere_comes_back_where_it_is() {
    let place = world();
    if !usable(&place) {
        return;
    }
    let mut lines = Vec::new();
    if works("unshare", &["-Urmpf", "--mount-proc", "true"]) {
        lines.push(
            "unshare -Urmpf --mount-proc sh -ec 'rm a; mount -t tmpfs t d; echo x > d/x; rm d/x; umount d; rm d/b'",
        );
        lines.push("unshare -Ur sh -ec 'rm a; chmod 700 d; rm -r d/e'");
        lines.push("unshare -Urm sh -ec 'mkdir n; mount --bind d n; rm n/b; echo z > n/e/c; umount n'; rm a");
        lines.push(
            "unshare -Urm sh -ec 'mkdir n o; mount --bind d n; mount --move n o; rm o/b'; rm a",
        );
        lines
            .push("unshare -Urm sh -ec 'mount --bind a mode; echo z > mode; umount mode; rm -r d'");
        lines.push(
            "unshare -Urm sh -ec 'mkdir r; mount --rbind / r; chroot r sh -ec \"cd $PWD; rm a; rm -r d\"'",
        );
        lines.push(
            "unshare -Urm sh -ec 'mkdir r r/w; for x in usr lib lib64 bin; do mkdir r/$x; mount --rbind /$x r/$x; done; \
             mount --bind d r/w; chroot r sh -ec \"rm /w/b; echo q > /w/e/c; mv /w/e /w/f; cd /w; ln -s x y\"'",
        );
    }
    let sandbox = ["--bind", "/", "/", "--dev", "/dev", "--proc", "/proc"];
    let mut trial = sandbox.to_vec();
    trial.extend(["--unshare-all", "true"]);
    if works("bwrap", &trial) {
        lines.push(
            "bwrap --bind / / --dev /dev --proc /proc --unshare-all sh -ec 'rm a; echo x > d/b; rm -r d/e'",
        );
        lines.push(
            "bwrap --ro-bind / / --dev /dev --bind \"$PWD\" /mnt --chdir /mnt --unshare-pid \
             sh -ec 'rm a; echo x > d/b; rm -r d/e /mnt/mode; mkdir n; mv d/b n; ln -s x l; chmod 700 d'",
        );
        lines.push("bwrap --ro-bind / / --dev /dev --bind \"$PWD/a\" /etc/hostname sh -ec 'echo over > /etc/hostname'");
        lines.push(
            "bwrap --ro-bind / / --dev /dev --bind \"$PWD\" /mnt --chdir /mnt \
             python3 -c 'import os; f = os.open(\"a\", os.O_RDONLY); os.fchmod(f, 0o600); os.utime(f, (1, 1))'",
        );
    }
    // What a command mounts itself had its names before.
    if is_root() && works("unshare", &["-m", "true"]) {
        let mounts = place.tree();
        std::fs::create_dir(mounts.join("m")).unwrap();
        let mounted = works(
            "mount",
            &["--bind", "/", &mounts.join("m").to_string_lossy()],
        );
        if mounted {
            let _ = Command::new("umount").arg(mounts.join("m")).status();
            lines.push("mkdir n; mount --bind d n; rm n/b; echo z > n/e/c; umount n; rm a");
            lines.push(
                "mount --bind d m; cd m; python3 -c 'import os; f = os.open(\"b\", os.O_RDONLY); os.fchmod(f, 0o600); os.unlink(\"b\")'; \
                 cd ..; umount m; rm a",
            );
        }
    }
    for line in lines {
        assert_back(&place, line);
    }
}

/// While it is mounted, other files have the paths.
#[test]
fn an_undo_leaves_alone_what_a_mount_of_the_command_has_hidden() {
    let place = world();
    if !is_root() || !usable(&place) {
        return skipped("a command that mounts (needs root)");
    }
    let mounts = Command::new("mount")
        .args(["-t", "tmpfs", "none"])
        .arg(place.tree().join("d/e/empty"))
        .status();
    if !mounts.is_ok_and(|status| status.success()) {
        return skipped("nothing can be mounted here");
    }
    let _ = Command::new("umount")
        .arg(place.tree().join("d/e/empty"))
        .status();
    assert_back(
        &place,
        "mount -t tmpfs t d; echo x > d/b; mkdir d/e; echo y > d/e/c; umount d; rm a",
    );
    assert_back(
        &place,
        "mount -t tmpfs t d; echo x > d/b; umount d; echo real > d/b; rm a",
    );
    // On a directory that was empty nothing is hidden.
    assert_back(
        &place,
        "mount -t tmpfs t d/e/empty; echo x > d/e/empty/b; umount d/e/empty; rm a",
    );
    let mut disk = Command::new("sh");
    let image = "truncate -s 4M i; mkfs.ext4 -q -F i; mkdir m; mount -o loop i m; echo old > m/f; umount m; rmdir m";
    let made = disk.args(["-ec", image]).current_dir(place.tree()).output();
    if made.unwrap().status.success() {
        let line = "mkdir m; mount -o loop i m; rm m/f; umount m";
        let output = captured(&place, line);
        let said = stderr(&output);
        assert!(
            said.contains("not captured") && said.contains("m/f"),
            "{said}"
        );
    }
}
