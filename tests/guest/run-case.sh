#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# run-case.sh NAME [FOLDER]: run one case, of cases/ or FOLDER, in its own folder; see lib.sh.
NAME=$1
CASES=${2:-cases}
# shellcheck source=tests/guest/lib.sh
. "$GUEST_DIR/lib.sh"
cd "$MNT" || exit 1
mkdir "$NAME" || exit 1
cd "$NAME" || exit 1
set -eux
# shellcheck source=/dev/null
. "$GUEST_DIR/$CASES/$NAME.sh"
