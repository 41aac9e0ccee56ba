# SPDX-License-Identifier: Apache-2.0
# CASE: any byte but / and NUL can be in a name
# TOOLS: busybox

printf 'a\001\n\t\\"*?[ \377\200' >"$TMPDIR/odd"
odd=$(cat "$TMPDIR/odd")
echo odd >"$odd"
[ "$(cat "$odd")" = odd ]
[ "$(host 'ls | wc -l')" -ge 1 ]
for name in ' ' '...' '-rf' '~' '$HOME' '&;|' 'ä' "it's"; do
	echo "$name" >"./$name"
	[ "$(cat "./$name")" = "$name" ]
done
[ "$(fsop types . | wc -l)" -ge 10 ]
set -- ./*
[ $# -eq 8 ]
rm -rf ./* ./...
[ "$(fsop count .)" = 0 ]
