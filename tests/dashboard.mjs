// The dashboard in a real browser: no error, no request, readable in both schemes and on a narrow screen, and for those who hear it.
// Usage: BDR_NODE=DIR node tests/dashboard.mjs BDR [SCREENSHOT.png]; DIR has playwright-core and axe-core in node_modules.
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const require = createRequire(join(process.env.BDR_NODE, 'x.js'));
const { chromium } = require('playwright-core');
const axe = require.resolve('axe-core/axe.min.js');
const [bdr, screenshot] = process.argv.slice(2);

const dir = mkdtempSync(join(tmpdir(), 'bdr-dashboard.'));
const home = join(dir, 'home');
const work = join(home, 'work');
// A scheduler that takes whatever it is told; whose user nobody knows, so that nobody asks whether it goes on after logout.
const tools = join(dir, 'tools');
const env = { ...process.env, USER: '', LOGNAME: '', PATH: `${tools}:/usr/bin:/bin`, XDG_CONFIG_HOME: join(home, '.config'), HOME: home, BDR_HOME: join(dir, 'bdr'), BDR_BACKGROUND: '0', TZ: 'UTC', LC_ALL: 'C.UTF-8' };
const run = (now, ...args) => {
    try {
        return execFileSync(bdr, args, { cwd: work, env: { ...env, BDR_TEST_NOW: now }, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
    } catch (error) {
        // A backup of nothing is part of the story; anything else is not.
        if (error.status === 1 && args[0] === 'tick') return '';
        throw new Error(`bdr ${args.join(' ')}: ${error.stderr}`);
    }
};

/** Eight weeks in the life of a repository: backups, guards, days without, a failure. */
function live() {
    for (const name of ['brain', 'work', '.claude']) mkdirSync(join(home, name), { recursive: true });
    for (let n = 0; n < 40; n++) writeFileSync(join(home, 'brain', `note-${n}.json`), JSON.stringify({ n, text: `note ${n} of many` }));
    writeFileSync(join(work, 'plan.md'), 'plan');
    mkdirSync(tools);
    writeFileSync(join(tools, 'systemctl'), '#!/bin/sh\n', { mode: 0o755 });
    run('2026-09-28T10:00:00Z', 'init', '--yes', '--source', `brain=${home}/brain`, '--source', `work=${work}`);
    run('2026-09-28T10:00:00Z', 'schedule', 'install', '--backend', 'systemd');
    for (let day = 1; day <= 55; day++) {
        const date = new Date(Date.UTC(2026, 8, 28 + day)).toISOString().slice(0, 10);
        appendFileSync(join(home, 'brain', 'log.txt'), `day ${day}\n`);
        if (day === 30) {
            for (const name of ['brain', 'work']) renameSync(join(home, name), join(home, `${name}-away`));
            mkdirSync(work);
            run(`${date}T03:17:00Z`, 'tick', '--scheduler', 'systemd');
            rmSync(work, { recursive: true });
            for (const name of ['brain', 'work']) renameSync(join(home, `${name}-away`), join(home, name));
        } else if (day % 11 !== 5) {
            run(`${date}T03:17:00Z`, 'tick', '--scheduler', 'systemd');
        }
        for (let n = 0; n < (day > 49 ? day % 4 : 0); n++) {
            mkdirSync(join(work, 'build'), { recursive: true });
            writeFileSync(join(work, 'build', `${n}.o`), 'object');
            run(`${date}T1${n}:00:00Z`, 'guard', '--summary', 'never', '--', 'rm', '-rf', 'build');
        }
    }
    run('2026-11-22T15:00:00Z', 'undo', '--last', '1', '--yes');
    // A name that would be markup, and one that would be a request, if anybody let it.
    writeFileSync(join(work, '<img src=https:'), 'x');
    run('2026-11-22T16:00:00Z', 'guard', '--summary', 'never', '--', 'rm', '<img src=https:');
    writeFileSync(join(work, 'new.md'), 'new');
    const then = new Date('2026-11-22T17:20:00Z');
    for (const name of ['new.md', '.']) utimesSync(join(work, name), then, then);
}

const browser = await chromium.launch({
    executablePath: ['/usr/bin/chromium', '/usr/bin/chromium-browser'].find(existsSync),
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking', '--disable-component-update', '--disable-sync'],
});
try {
    live();
    const file = join(dir, 'dashboard.html');
    const pages = [
        ['2026-11-22T18:00:00Z', 'ok', /^Protected\. Last backup .* ago, last restore drill .* next 02:30\.$/],
        ['2026-11-30T18:00:00Z', 'critical', /^Not protected: last backup .* days ago; the scheduler has not run since 2026-11-22\.$/],
    ];
    for (const [now, level, sentence] of pages) {
        run(now, 'dashboard', '--output', file);
        for (const colorScheme of ['light', 'dark']) {
            for (const width of [390, 1000]) {
                const where = `${level}, ${colorScheme}, ${width} px`;
                // Scripts are for the checker alone: the page has none, and its policy would not let it.
                const context = await browser.newContext({ colorScheme, viewport: { width, height: 900 }, bypassCSP: true });
                const page = await context.newPage();
                const faults = [];
                page.on('console', (message) => faults.push(`console: ${message.text()}`));
                page.on('pageerror', (error) => faults.push(`error: ${error}`));
                page.on('request', (request) => { if (request.url() !== pathToFileURL(file).href && !request.url().startsWith('data:')) faults.push(`request: ${request.url()}`); });
                await page.goto(pathToFileURL(file).href);
                const seen = await page.evaluate(() => ({
                    sentence: document.querySelector('h1 span:last-child').textContent,
                    level: document.querySelector('header').className,
                    days: document.querySelectorAll('svg rect:has(title)').length,
                    failed: document.querySelectorAll('svg rect.failed:has(title)').length,
                    missed: document.querySelectorAll('svg rect.missed:has(title)').length,
                    scripts: document.scripts.length,
                    images: document.images.length,
                    wide: document.documentElement.scrollWidth,
                    background: getComputedStyle(document.body).backgroundColor,
                    unnamed: [...document.querySelectorAll('svg[role=img], [role=img]')].filter((e) => !e.getAttribute('aria-label')).length,
                    text: document.body.innerText,
                }));
                assert.deepEqual(faults, [], where);
                assert.match(seen.sentence, sentence, where);
                assert.equal(seen.level, level, where);
                // 53 weeks, the last one up to today.
                assert.ok(seen.days > 52 * 7 && seen.days <= 53 * 7, `${where}: ${seen.days} days`);
                assert.equal(seen.failed, 1, where);
                assert.ok(seen.missed >= 4, `${where}: ${seen.missed} missed`);
                assert.deepEqual([seen.scripts, seen.images, seen.unnamed], [0, 0, 0], where);
                assert.ok(seen.wide <= width, `${where}: the page is ${seen.wide} px wide`);
                assert.equal(seen.background, colorScheme === 'dark' ? 'rgb(15, 19, 24)' : 'rgb(246, 247, 249)', where);
                assert.ok(seen.text.includes("rm '<img src=https:'") && seen.text.includes('undone'), where);
                assert.ok(!seen.text.includes(dir), `${where}: a path is named`);
                await page.addScriptTag({ path: axe });
                const { violations } = await page.evaluate(() => axe.run());
                assert.deepEqual(violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target).join(' ')}`), [], where);
                if (screenshot && level === 'ok' && width === 1000 && colorScheme === 'light') {
                    await page.screenshot({ path: screenshot, clip: { x: 0, y: 0, width, height: 900 } });
                }
                await context.close();
            }
        }
    }
    console.log('ok: the dashboard in a real browser, light and dark, 390 and 1000 px wide');
} finally {
    await browser.close();
    execFileSync('chmod', ['-R', 'u+w', dir]);
    rmSync(dir, { recursive: true, force: true });
}
