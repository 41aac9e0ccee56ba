# SPDX-License-Identifier: Apache-2.0
# CASE: files that are removed, renamed and cut while they are open
# TOOLS: debian
# LIMIT: 60

mkdir top
fscheck renamed top
echo kept >here
exec 5<>here
rm here
[ "$(cat <&5)" = kept ]
exec 5>&-
[ ! -e here ]
seq 1000 >cut
exec 5<cut
: >cut
[ -z "$(cat <&5)" ]
exec 5>&-
fsop append log 200 one &
fsop append log 200 two &
wait
[ "$(sort -u log | wc -l)" = 400 ]
