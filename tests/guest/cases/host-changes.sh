# SPDX-License-Identifier: Apache-2.0
# CASE: what the host changes, the guest sees within the time-out
# TOOLS: busybox
# LIMIT: 60

echo old >file
[ "$(cat file)" = old ]
host 'echo longer than before >file'
within 5 sh -c '[ "$(cat file)" = "longer than before" ]'
# The same length: by its time.
host 'sleep 0.1; echo LONGER THAN BEFORE >file'
within 5 sh -c '[ "$(cat file)" = "LONGER THAN BEFORE" ]'
# A name that was looked up in vain.
[ ! -e later ]
host 'echo now >later'
within 5 test -e later
[ "$(cat later)" = now ]
# Removed, replaced, renamed, made something else.
host 'rm later'
within 5 refused cat later
host 'mkdir later'
within 5 test -d later
host 'rmdir later && ln -s file later'
within 5 test -L later
host 'mv file renamed'
within 5 test -e renamed
within 5 refused test -e file
host 'chown 5:6 renamed && chmod 4711 renamed'
within 5 sh -c '[ "$(fsop stat renamed | cut -d" " -f1-3)" = "104711 5 6" ]'
# New entries in a folder that was just read.
ls >/dev/null
host 'touch extra'
within 5 sh -c 'ls | grep -qx extra'
