#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# run-case.sh NAME: run one case in its own folder; see lib.sh.
NAME=$1
. "$GUEST_DIR/lib.sh"
cd "$MNT" || exit 1
mkdir "$NAME" || exit 1
cd "$NAME" || exit 1
set -eux
. "$GUEST_DIR/cases/$NAME.sh"
