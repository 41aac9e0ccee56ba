# SPDX-License-Identifier: Apache-2.0
# CASE: rename moves, replaces, and refuses what rename(2) refuses
# TOOLS: busybox

echo a >a
mv a b
[ ! -e a ]
[ "$(host 'cat b')" = a ]

# Onto a file: the old one is replaced.
echo c >c
fsop rename2 none c b
[ "$(cat b)" = c ]
[ ! -e c ]

# Across folders, and a folder with something in it.
mkdir d e
mv b d/b
mv d e/d
[ "$(host 'cat e/d/b')" = c ]

# Onto an empty folder, not onto a full one, not a folder onto a file.
mkdir full full/x empty
fsop rename2 none full empty
[ -d empty/x ]
mkdir other
fails_with ENOTEMPTY fsop rename2 none other empty
echo file >file
fails_with ENOTDIR fsop rename2 none other file
fails_with EISDIR fsop rename2 none file other
# Into itself.
fails_with EINVAL fsop rename2 none e e/d/e
fails_with ENOENT fsop rename2 none nothing something
# Two names of one file: nothing happens, both stay.
ln file same
fsop rename2 none file same
[ -e file ]
[ -e same ]
