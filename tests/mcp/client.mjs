// The official TypeScript client against `bdr mcp`: every tool, and a user who can be asked. Usage: node client.mjs BDR
// BDR_NODE names the directory that has node_modules/@modelcontextprotocol/client.
import assert from "node:assert";
import { execFileSync } from "node:child_process";
import fs from "node:fs";
import { createRequire } from "node:module";
import os from "node:os";
import path from "node:path";
import { pathToFileURL } from "node:url";

const require = createRequire(pathToFileURL(path.join(process.env.BDR_NODE, "package.json")));
const load = (name) => import(pathToFileURL(require.resolve(name)));
const { Client } = await load("@modelcontextprotocol/client");
const { StdioClientTransport } = await load("@modelcontextprotocol/client/stdio");

const bdr = process.argv[2];
const home = fs.mkdtempSync(path.join(os.tmpdir(), "bdr-ts-"));
const tree = path.join(home, "tree");
fs.mkdirSync(tree);
for (let n = 0; n < 20; n++) fs.writeFileSync(path.join(tree, `${n}.txt`), `file ${n}\n`);
const env = { PATH: process.env.PATH, HOME: home, BDR_HOME: path.join(home, "bdr"), BDR_LIFEBOAT: "", BDR_BACKGROUND: "0" };
execFileSync(bdr, ["--quiet", "init", "--yes", "--source", `tree=${tree}`], { env, cwd: tree });

const warned = [];
console.warn = (...words) => warned.push(words.join(" "));
let asked = 0;
const client = new Client({ name: "ts", version: "1" }, { capabilities: { elicitation: { form: {} } } });
client.setRequestHandler("elicitation/create", async () => {
    asked += 1;
    return { action: "accept", content: { proceed: true } };
});
await client.connect(new StdioClientTransport({ command: bdr, args: ["mcp"], env, cwd: tree }));

const calls = {
    checkpoint: { label: "typescript" },
    diff_changes: { patch: true },
    undo_changes: { dryRun: true },
    find_versions: { path: "*.txt" },
    create_backup: { type: "full", verify: true },
    list_backups: {},
    verify_backup: { backupId: "latest" },
    restore_backup: { backupId: "latest", dryRun: true, overwrite: true },
    get_backup_status: {},
    schedule_backup: { action: "list" },
    cleanup_old_backups: { dryRun: true },
    export_backup_config: { format: "markdown" },
};
const { tools } = await client.listTools();
assert.deepStrictEqual(tools.map((tool) => tool.name), Object.keys(calls));
for (const [name, args] of Object.entries(calls)) {
    const result = await client.callTool({ name, arguments: args });
    assert.ok(!result.isError, `${name}: ${JSON.stringify(result)}`);
    assert.ok(result.structuredContent, name);
}
fs.rmSync(path.join(tree, "1.txt"));
fs.writeFileSync(path.join(tree, "2.txt"), "broken");
const undone = await client.callTool({ name: "undo_changes", arguments: {} });
assert.ok(!undone.isError, JSON.stringify(undone));
assert.strictEqual(asked, 1);
assert.strictEqual(fs.readFileSync(path.join(tree, "2.txt"), "utf8"), "file 2\n");
assert.ok(fs.existsSync(path.join(tree, "1.txt")));
const refused = await client.callTool({ name: "create_backup", arguments: { sources: ["/etc"] } });
assert.ok(refused.isError && refused.content[0].text.includes("PATH_NOT_ALLOWED"));
await client.close();
fs.rmSync(home, { recursive: true, force: true });
assert.deepStrictEqual(warned, []);
console.log(`typescript client: ${Object.keys(calls).length} tools, asked ${asked}`);
