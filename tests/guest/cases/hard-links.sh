# SPDX-License-Identifier: Apache-2.0
# CASE: several names of one file are one file, until the last is gone
# TOOLS: busybox

echo one >a
ln a b
mkdir dir
ln b dir/c
set -- $(fsop stat a)
[ "$4" = 3 ]
[ "$(host 'stat -c %h a')" = 3 ]
[ "$(stat -c %i a)" = "$(stat -c %i dir/c)" ]

# Written by one name, read by another.
echo two >>dir/c
[ "$(wc -l <a)" -eq 2 ]
[ "$(host 'wc -l <b')" -eq 2 ]
fails_with "exists" ln a b
refused ln dir dir2
chmod 600 b
set -- $(fsop stat a)
[ "$1" = 100600 ]

rm a
[ "$(wc -l <dir/c)" -eq 2 ]
rm b dir/c
[ "$(fsop count dir)" = 0 ]
# One that the host makes shows up with its count.
echo x >x
host 'ln x y'
[ "$(cat y)" = x ]
