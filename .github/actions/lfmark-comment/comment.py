#!/usr/bin/env python3
"""Posts a text as the one comment of lfmark on a pull request, or edits that comment.

The pull request is found by the commit that was measured, and not by anything that the measured code
wrote. The comment is found again by a line that Markdown does not show. Needs `gh` and Python 3.8.
"""

import argparse
import json
import subprocess
import sys

MARKER = "<!-- lfmark: comparison of machines -->"
MOST_CHARACTERS = 65_536
PAGE = 100


class Failed(Exception):
    """A request that GitHub, or `gh`, did not answer as hoped."""


def api(method, path, fields=None):
    """The answer to a request, as JSON."""
    command = ["gh", "api", "--method", method, path]
    if fields is not None:
        command += ["--input", "-"]
    done = subprocess.run(
        command,
        input=None if fields is None else json.dumps(fields),
        stdin=subprocess.DEVNULL if fields is None else None,
        capture_output=True,
        encoding="utf-8",
    )
    if done.returncode != 0:
        raise Failed(f"{method} {path}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def all_pages(path):
    """The items of all pages of a list."""
    number = 1
    while True:
        separator = "&" if "?" in path else "?"
        items = api("GET", f"{path}{separator}per_page={PAGE}&page={number}")
        yield from items
        if len(items) < PAGE:
            return
        number += 1


def pull_request(repository, commit):
    """The open pull request whose newest commit is this one, or None.

    A result that arrives after further commits is of no use to its readers.
    """
    for candidate in all_pages(f"repos/{repository}/pulls?state=open"):
        if candidate["head"]["sha"] == commit:
            return candidate
    return None


def own_comment(repository, number, author):
    """The id of the oldest comment that has the marker, or None.

    Anyone can write the marker, so that the author has to be right as well.
    """
    for comment in all_pages(f"repos/{repository}/issues/{number}/comments"):
        if comment["user"]["login"] == author and comment["body"].startswith(MARKER):
            return comment["id"]
    return None


def body(text, commit, run, from_fork):
    """The comment's text: within its limit, and without a name that would call somebody."""
    where = f" The charts and all of it are artifacts of [the run]({run})." if run else ""
    lines = [MARKER, f"lfmark measured commit {commit}.{where}"]
    if from_fork:
        lines.append(
            "**The code of a fork wrote what follows, on hosted machines: its figures are its claims.**"
        )
    head = "\n".join(lines) + "\n\n"
    # A zero-width space keeps `@name` from calling whoever has that name.
    text = text.replace("\0", "").replace("@", "@\u200b")
    room = MOST_CHARACTERS - len(head)
    if len(text) > room:
        note = "**Cut to what a comment holds; the rest is in the artifact of the run.**\n\n"
        text = note + text[: room - len(note)].rpartition("\n")[0]
    return head + text


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", help="text of the comment, UTF-8")
    parser.add_argument("--repository", required=True, help="OWNER/NAME")
    parser.add_argument("--commit", required=True, help="the commit that was measured, in full")
    parser.add_argument("--run", help="address of the run that measured")
    parser.add_argument("--author", default="github-actions[bot]", help="who `gh` acts as")
    args = parser.parse_args()

    request = pull_request(args.repository, args.commit)
    if request is None:
        print("no open pull request ends with this commit: nothing to comment on")
        return
    source = (request["head"].get("repo") or {}).get("full_name")
    with open(args.file, encoding="utf-8", errors="replace") as file:
        text = body(file.read(), args.commit, args.run, source != args.repository)
    fields = {"body": text}
    number = request["number"]
    comment = own_comment(args.repository, number, args.author)
    if comment is not None:
        api("PATCH", f"repos/{args.repository}/issues/comments/{comment}", fields)
        print(f"edited the comment on pull request {number}")
    else:
        api("POST", f"repos/{args.repository}/issues/{number}/comments", fields)
        print(f"commented on pull request {number}")


if __name__ == "__main__":
    try:
        main()
    except (Failed, OSError, ValueError, KeyError) as error:
        sys.exit(f"error: {error}")
