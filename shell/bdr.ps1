# bdr for PowerShell: `guard git reset --hard` takes a snapshot, then runs the command; `bdr undo` takes it back.
# To use it, add to the file named by $PROFILE:   . /path/to/bdr.ps1
# Programs only: a cmdlet or a function has no child process that bdr could wrap.
if (Test-Path Alias:guard) { Remove-Item -Force Alias:guard }

function global:guard {
    $bdr = Get-Command bdr -CommandType Application -ErrorAction SilentlyContinue | Select-Object -First 1
    if (-not $bdr) {
        [Console]::Error.WriteLine('guard: not run. bdr is not on PATH.')
        $global:LASTEXITCODE = 125
        return
    }
    & $bdr.Source guard '--' @args
}
