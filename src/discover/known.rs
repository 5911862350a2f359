//! The places that are known by name.

/// State of a workspace that git usually does not have.
pub(super) const WORKSPACE: &[&str] = &[
    "checklist-registry.json",
    "temp/workflows",
    ".agent-assignments.jsonl",
    ".ai-planning",
    ".security-scans",
    ".security-issues-log",
    ".smart-file-organizer-rules.json",
    ".mcp.json",
    ".env.*",
    ".deployments",
];

/// State of coding agents, below the home directory.
pub(super) const AGENTS: &[&str] = &[".claude.json", ".claude", ".codex", ".gemini", ".cursor"];

/// What agents can make again, or what is only a credential: signing in again is quicker than a restore.
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

/// Configuration files of HOME that are taken wherever they are found.
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

/// Dotfiles that are caches, histories or nothing but a secret.
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

/// A dotfile of HOME that no list names is taken up to this size.
pub(super) const SMALL_BYTES: u64 = 64 * 1024;
