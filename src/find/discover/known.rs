//! The places that bdr knows by name.

use std::path::Path;

/// State of a workspace that git usually does not store.
pub(super) const WORKSPACE: &[&str] = &[
    "checklist-registry.json",
    "temp/workflows",
    ".agent-assignments.jsonl",
    ".ai-planning",
    ".security-scans",
    ".security-issues-log",
    ".smart-file-organizer-rules.json",
    ".mcp.json",
    "/.env.*",
    ".deployments",
];

/// State of coding agents, below the home directory.
pub(super) const AGENTS: &[&str] = &[
    ".claude.json",
    ".claude",
    ".codex",
    ".gemini",
    ".cursor",
    ".config/Claude/claude_desktop_config.json",
    "Library/Application Support/Claude/claude_desktop_config.json",
    "AppData/Roaming/Claude/claude_desktop_config.json",
    ".codeium/windsurf/mcp_config.json",
];

/// Returns true for state or configuration of a coding agent, by its path below HOME.
pub fn is_of_an_agent(below_home: &Path) -> bool {
    AGENTS.iter().any(|known| below_home.starts_with(known))
}

/// What agents can recreate, or what is only a credential: signing in again is faster than a
/// restore.
pub(super) const AGENTS_EXCLUDED: &[&str] = &[
    "/.claude/.credentials.json",
    "/.codex/auth.json",
    "/.gemini/oauth_creds.json",
    "/.claude/shell-snapshots",
    "/.claude/statsig",
    "/.claude/local",
    "/.claude/downloads",
    "/.cursor/extensions",
    "/.codex/tmp",
    "/.gemini/tmp",
];

/// Configuration files that are captured wherever in HOME they are.
pub(super) const DOTFILES: &[&str] = &[
    ".profile",
    ".bashrc",
    ".bash_profile",
    ".bash_aliases",
    ".bash_logout",
    ".zshrc",
    ".zshenv",
    ".zprofile",
    ".zlogin",
    ".inputrc",
    ".gitconfig",
    ".gitignore",
    ".gitignore_global",
    ".vimrc",
    ".tmux.conf",
    ".screenrc",
    ".editorconfig",
    ".config/fish/config.fish",
    ".config/git",
    ".config/starship.toml",
    ".ssh/config",
];

/// Directories of HOME and of `.config` with caches, programs, or only secrets.
pub(super) const NOT_TOOLS: &[&str] = &[
    ".Trash",
    ".android",
    ".aws",
    ".azure",
    ".bun",
    ".cache",
    ".cargo",
    ".ccache",
    ".cpan",
    ".cursor-server",
    ".dbus",
    ".deno",
    ".docker",
    ".dotnet",
    ".electron-gyp",
    ".eclipse",
    ".expo",
    ".gem",
    ".gnupg",
    ".gradle",
    ".gsutil",
    ".gvfs",
    ".ivy2",
    ".java",
    ".jupyter",
    ".keychain",
    ".kube",
    ".local",
    ".m2",
    ".minikube",
    ".mozilla",
    ".node-gyp",
    ".npm",
    ".nuget",
    ".nvm",
    ".oh-my-zsh",
    ".password-store",
    ".pki",
    ".pnpm-store",
    ".pyenv",
    ".rbenv",
    ".rustup",
    ".sbt",
    ".sdkman",
    ".ssh",
    ".stack",
    ".terraform.d",
    ".thunderbird",
    ".tox",
    ".venv",
    ".virtualenvs",
    ".vscode",
    ".vscode-server",
    ".wine",
    ".yarn",
    ".config",
    ".git",
    ".config/gcloud",
    ".config/gh",
    ".config/google-chrome",
    ".config/chromium",
    ".config/BraveSoftware",
    ".config/microsoft-edge",
    ".config/Slack",
    ".config/discord",
    ".config/pulse",
    ".config/dconf",
    ".config/gnupg",
    ".config/op",
    ".config/rclone",
    ".config/bdr",
];

/// Other directories of HOME are captured up to this size and this number of files, and up to the
/// last limit together.
pub(super) const TOOL_BYTES: u64 = 8 << 20;
pub(super) const TOOL_FILES: usize = 1_000;
pub(super) const TOOLS_BYTES: u64 = 64 << 20;

/// Dotfiles that are caches, histories or only a secret.
pub(super) const NOT_DOTFILES: &[&str] = &[
    ".DS_Store",
    ".ICEauthority",
    ".Xauthority",
    ".claude.json",
    ".git-credentials",
    ".lesshst",
    ".localized",
    ".my.cnf",
    ".netrc",
    ".npmrc",
    ".pgpass",
    ".pypirc",
    ".rnd",
    ".sudo_as_admin_successful",
    ".viminfo",
    ".wget-hsts",
];

/// Other dotfiles of HOME are captured up to this size, in bytes.
pub(super) const SMALL_BYTES: u64 = 64 * 1024;
