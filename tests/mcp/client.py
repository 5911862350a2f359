"""The official Python client against `bdr mcp`: every tool, in each mode, with and without a user who can be asked.

Usage: client.py BDR. Makes its own HOME. Needs the package `mcp`."""
import asyncio
import os
import shutil
import subprocess
import sys
import tempfile

from mcp import Client, StdioServerParameters
from mcp.types import ElicitResult

TOOLS = [
    ("checkpoint", {"label": "python"}),
    ("diff_changes", {"patch": True}),
    ("undo_changes", {"dryRun": True}),
    ("find_versions", {"path": "*.txt"}),
    ("create_backup", {"type": "full", "verify": True}),
    ("list_backups", {}),
    ("verify_backup", {"backupId": "latest"}),
    ("restore_backup", {"backupId": "latest", "dryRun": True, "overwrite": True}),
    ("get_backup_status", {"includeRetention": True}),
    ("schedule_backup", {"action": "list"}),
    ("cleanup_old_backups", {"dryRun": True}),
    ("export_backup_config", {"format": "yaml"}),
]


async def run(bdr, mode):
    home = tempfile.mkdtemp(prefix="bdr-py-")
    tree = os.path.join(home, "tree")
    os.mkdir(tree)
    for number in range(20):
        with open(f"{tree}/{number}.txt", "w") as file:
            file.write(f"file {number}\n")
    env = {"PATH": os.environ["PATH"], "HOME": home, "BDR_HOME": f"{home}/bdr", "BDR_LIFEBOAT": "", "BDR_BACKGROUND": "0"}
    subprocess.run([bdr, "--quiet", "init", "--yes", "--source", f"tree={tree}"], env=env, cwd=tree, check=True)
    asked, progress = [], []

    async def elicit(context, params):
        asked.append(params.message)
        return ElicitResult(action="accept", content={"proceed": True})

    async def told(done, total, message):
        progress.append(done)

    server = StdioServerParameters(command=bdr, args=["mcp"], env=env, cwd=tree)
    async with Client(server, mode=mode, elicitation_callback=elicit) as client:
        listed = await client.list_tools()
        names = [tool.name for tool in listed.tools]
        assert names == [name for name, _ in TOOLS], names
        for name, arguments in TOOLS:
            result = await client.call_tool(name, arguments, progress_callback=told)
            assert not result.is_error, (mode, name, result)
            assert isinstance(result.structured_content, dict), (mode, name, result)
        os.remove(f"{tree}/1.txt")
        with open(f"{tree}/2.txt", "w") as file:
            file.write("broken")
        result = await client.call_tool("undo_changes", {})
        assert not result.is_error, result
        assert len(asked) == 1, asked
        assert open(f"{tree}/2.txt").read() == "file 2\n" and os.path.exists(f"{tree}/1.txt")
        refused = await client.call_tool("restore_backup", {"backupId": "latest", "destination": "/etc"})
        assert refused.is_error and "PATH_NOT_ALLOWED" in refused.content[0].text, refused
        assert len((await client.list_resources()).resources) == 3
        assert len((await client.list_prompts()).prompts) == 3
        read = await client.read_resource("bdr://status")
        assert "health" in read.contents[0].text
    shutil.rmtree(home, ignore_errors=True)
    print(f"python client, {mode}: {len(TOOLS)} tools, asked {len(asked)}")


async def main():
    for mode in ["legacy", "auto", "2026-07-28"]:
        await run(sys.argv[1], mode)


asyncio.run(main())
