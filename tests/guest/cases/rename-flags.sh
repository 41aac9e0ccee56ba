# SPDX-License-Identifier: Apache-2.0
# CASE: RENAME_NOREPLACE and RENAME_EXCHANGE
# TOOLS: busybox

echo a >a
echo b >b
fails_with EEXIST fsop rename2 noreplace a b
[ "$(cat b)" = b ]
fsop rename2 noreplace a c
[ "$(cat c)" = a ]
[ ! -e a ]

fsop rename2 exchange b c
[ "$(cat b)" = a ]
[ "$(cat c)" = b ]
[ "$(host 'cat b')" = a ]
fails_with ENOENT fsop rename2 exchange b nothing

# A file and a folder.
mkdir dir
echo in >dir/in
fsop rename2 exchange b dir
[ -f dir ]
[ "$(cat b/in)" = in ]
