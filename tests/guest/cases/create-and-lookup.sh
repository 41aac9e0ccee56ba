# SPDX-License-Identifier: Apache-2.0
# CASE: a file that one side creates is there for the other, with its contents
# TOOLS: busybox

echo guest >from-guest
[ "$(host cat from-guest)" = guest ]
host 'echo host >from-host'
[ "$(cat from-host)" = host ]

# Created twice: the second one must say so.
fails_with EEXIST fsop open creat,excl from-guest

refused cat nothing-here
refused ls from-guest/below-a-file
[ -f from-guest ]
[ ! -e FROM-GUEST ]
