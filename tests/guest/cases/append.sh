# SPDX-License-Identifier: Apache-2.0
# CASE: O_APPEND: no write of two at the same file overwrites another
# TOOLS: busybox

fsop append log 500 one &
fsop append log 500 two &
fsop append log 500 three &
wait
[ "$(wc -l <log)" -eq 1500 ]
[ "$(sort -u log | wc -l)" -eq 1500 ]
[ "$(host 'wc -l <log')" -eq 1500 ]
# The host grew it meanwhile: what comes next goes to its end.
host 'echo host >>log'
echo guest >>log
[ "$(host 'tail -n 1 log')" = guest ]
[ "$(host 'wc -l <log')" -eq 1502 ]
