<#
.SYNOPSIS
Builds bdr from this checkout and installs it for the current user. No administrator; no network but cargo's.
.EXAMPLE
powershell -ExecutionPolicy Bypass -File install.ps1 -Demo
#>
[CmdletBinding()]
param(
    # After installing, run `bdr demo` (in a scratch directory).
    [switch]$Demo,
    # Install <Prefix>\bin\bdr.exe. Default: $env:BDR_INSTALL_DIR\bdr.exe, else %LOCALAPPDATA%\Programs\bdr\bdr.exe.
    [string]$Prefix,
    # Remove the installed program; backups and settings stay.
    [switch]$Uninstall
)
Set-StrictMode -Version 2
$ErrorActionPreference = 'Stop'

function Stop-Install([string]$Message, [string[]]$Hints = @()) {
    [Console]::Error.WriteLine("install.ps1: $Message")
    foreach ($hint in $Hints) { [Console]::Error.WriteLine("  $hint") }
    exit 1
}

if ($Prefix) { $dir = Join-Path $Prefix 'bin' }
elseif ($env:BDR_INSTALL_DIR) { $dir = $env:BDR_INSTALL_DIR }
elseif ($env:LOCALAPPDATA) { $dir = Join-Path (Join-Path $env:LOCALAPPDATA 'Programs') 'bdr' }
else { Stop-Install 'LOCALAPPDATA is not set, so there is no place to install to.' @('install.ps1 -Prefix DIR') }
# .NET keeps its own current directory, so a relative path is made absolute by PowerShell.
$dir = $ExecutionContext.SessionState.Path.GetUnresolvedProviderPathFromPSPath($dir)
$target = Join-Path $dir 'bdr.exe'
$old = Join-Path $dir 'bdr.exe.old'

if ($Uninstall) {
    if ($Demo) { Stop-Install '-Demo and -Uninstall do not go together.' }
    if (Test-Path -LiteralPath $target) {
        Remove-Item -LiteralPath $target -Force
        Remove-Item -LiteralPath $old -Force -ErrorAction SilentlyContinue
        Write-Output "removed $target; backups and settings are where they were"
    } else {
        Write-Output "nothing to remove: there is no $target"
    }
    exit 0
}

if (-not (Test-Path -LiteralPath (Join-Path $PSScriptRoot 'Cargo.toml'))) {
    Stop-Install 'run this from a checkout of bdr.' @('git clone <repository> bdr', 'powershell -ExecutionPolicy Bypass -File bdr\install.ps1')
}
if (-not (Get-Command cargo -CommandType Application -ErrorAction SilentlyContinue)) {
    Stop-Install 'Rust is needed to build bdr, and there is no cargo. Install it, then run this again:' @('winget install Rustlang.Rustup')
}

# Build output stays outside the checkout.
if (-not $env:CARGO_TARGET_DIR) {
    $cache = $env:LOCALAPPDATA
    if (-not $cache) { $cache = [IO.Path]::GetTempPath() }
    $env:CARGO_TARGET_DIR = Join-Path $cache 'bdr-build'
}
Write-Output "building bdr in $env:CARGO_TARGET_DIR (the first time takes some minutes)"
Push-Location -LiteralPath $PSScriptRoot
try {
    $features = if ($env:BDR_FEATURES) { @('--features', $env:BDR_FEATURES) } else { @() }
    & cargo build --release --locked --bin bdr @features
    $status = $LASTEXITCODE
} finally {
    Pop-Location
}
if ($status -ne 0) {
    Stop-Install 'the build failed; the lines above say why. Needed: Rust 1.91 or newer, and a C compiler.' @(
        'rustup update', 'winget install Microsoft.VisualStudio.2022.BuildTools')
}
$built = $env:CARGO_TARGET_DIR
if ($env:CARGO_BUILD_TARGET) { $built = Join-Path $built $env:CARGO_BUILD_TARGET }
$built = Join-Path (Join-Path $built 'release') 'bdr.exe'
if (-not (Test-Path -LiteralPath $built)) { Stop-Install "the build left no $built" }

[void](New-Item -ItemType Directory -Force -Path $dir)
$temp = Join-Path $dir ('.bdr-{0}.exe' -f [Guid]::NewGuid().ToString('N'))
try {
    Copy-Item -LiteralPath $built -Destination $temp
    $version = & $temp --version
    if ($LASTEXITCODE -ne 0) { Stop-Install 'the program that was built does not run here; nothing was installed.' }
    if (Test-Path -LiteralPath $target) {
        # A running program can be renamed but not deleted; Replace swaps the two in one step.
        Remove-Item -LiteralPath $old -Force -ErrorAction SilentlyContinue
        [IO.File]::Replace($temp, $target, $old)
        Remove-Item -LiteralPath $old -Force -ErrorAction SilentlyContinue
    } else {
        [IO.File]::Move($temp, $target)
    }
} finally {
    Remove-Item -LiteralPath $temp -Force -ErrorAction SilentlyContinue
}
Write-Output "installed $version as $target"

$onPath = @($env:PATH -split [IO.Path]::PathSeparator | Where-Object { $_ -and $_.TrimEnd('\') -eq $dir.TrimEnd('\') })
if ($onPath.Count -eq 0) {
    Write-Output "$dir is not on your PATH. Add it (new windows will have it):"
    Write-Output "  [Environment]::SetEnvironmentVariable('Path', [Environment]::GetEnvironmentVariable('Path', 'User') + ';$dir', 'User')"
}
if ($Demo) {
    & $target demo
    exit $LASTEXITCODE
}
Write-Output 'next: bdr init      (or first: bdr demo, which touches nothing of yours)'
