# bdr for PowerShell. In the file named by $PROFILE: bdr shell init powershell | Out-String | Invoke-Expression
# Before each typed line that may change something, a snapshot; after it, what is gone and how it comes back. `guard PROGRAM` for one
# program: a cmdlet or a function has no child process that bdr could wrap. Off: $env:BDR = '0'.

$global:__bdrBin = '@BDR@'
if (-not (Test-Path -LiteralPath $global:__bdrBin)) { $global:__bdrBin = 'bdr' }
if (Test-Path Alias:guard) { Remove-Item -Force Alias:guard }

function global:guard {
    $bdr = Get-Command $global:__bdrBin -CommandType Application -ErrorAction SilentlyContinue | Select-Object -First 1
    if (-not $bdr) {
        [Console]::Error.WriteLine('guard: not run. bdr is not on PATH.')
        $global:LASTEXITCODE = 125
        return
    }
    & $bdr.Source guard '--' @args
}

# Is true for lines that only look: nothing is started for them.
function global:__bdrLooks([string]$line) {
    if ($line -match '[;&|<>`$(){}\n]|--output') { return $false }
    return $line -match '^\s*($|#|(cd|ls|dir|gci|pwd|echo|cat|type|gc|Get-ChildItem|Get-Content|Get-Location|Set-Location|Select-String|where|man|help|clear|cls|exit|whoami|ps|bdr|guard|z|zi)(\s|$)|(history|tree|git (status|log|diff|show|blame|ls-files))(\s+[^-\s]\S*)*\s*$)'
}

# PSReadLine and the host itself read a line by this function: the line is known before it runs.
if (-not (Get-Variable -Name __bdrLoaded -Scope Global -ErrorAction SilentlyContinue) -and (Test-Path Function:PSConsoleHostReadLine)) {
    $global:__bdrLoaded = $true
    $global:__bdrOpen = $false
    $global:__bdrReadLine = $Function:PSConsoleHostReadLine
    function global:PSConsoleHostReadLine {
        $line = & $global:__bdrReadLine
        if ($env:BDR -ne '0' -and -not (__bdrLooks $line)) {
            $code = $global:LASTEXITCODE
            $global:__bdrOpen = $true
            $null | & $global:__bdrBin hook shell before --shell powershell --session $PID '--' $line | Out-Null
            $global:LASTEXITCODE = $code
        }
        $line
    }
    $global:__bdrPrompt = $Function:prompt
    function global:prompt {
        $good = $?
        if ($global:__bdrOpen) {
            $global:__bdrOpen = $false
            $code = $global:LASTEXITCODE
            $exit = if ($good) { 0 } elseif ($code) { $code } else { 1 }
            $null | & $global:__bdrBin hook shell after --shell powershell --session $PID --exit $exit
            $global:LASTEXITCODE = $code
        }
        & $global:__bdrPrompt
    }
}
# @OPTIONS@
