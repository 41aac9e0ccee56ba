# SPDX-License-Identifier: Apache-2.0
# CASE: a position in a folder stays good while the folder changes
# TOOLS: busybox
# LIMIT: 60

mkdir tell remove
fscheck telldir tell
fscheck removing remove
[ "$(fsop count remove)" = 0 ]
