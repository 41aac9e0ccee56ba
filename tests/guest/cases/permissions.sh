# SPDX-License-Identifier: Apache-2.0
# CASE: the mode of a file binds every user but root
# TOOLS: busybox

chmod 755 .
echo secret >secret
chmod 600 secret
fails_with EACCES fsop as 1000 1000 fsop open read secret
fails_with EACCES fsop as 1000 1000 fsop open creat,rdwr new
refused fsop as 1000 1000 mkdir dir
refused fsop as 1000 1000 rm -f secret
refused fsop as 1000 1000 mv secret other
fails_with EACCES fsop as 1000 1000 fsop access secret r
fsop access secret rw

# By group, the first one or another.
chgrp 500 secret
chmod 640 secret
fsop as 1000 500 fsop open read secret
fsop as 1000 1000,500 fsop open read secret
fails_with EACCES fsop as 1000 500 fsop open write secret
fails_with EACCES fsop as 1000 1000,501 fsop open read secret

# A folder that may not be entered, or not be listed.
mkdir closed
echo in >closed/in
chmod 700 closed
fails_with EACCES fsop as 1000 1000 fsop open read closed/in
chmod 711 closed
fsop as 1000 1000 fsop open read closed/in
refused fsop as 1000 1000 ls closed

# Sticky: others' files cannot be removed from it.
mkdir sticky
chmod 1777 sticky
fsop as 1000 1000 sh -c 'echo x >sticky/x'
refused fsop as 1001 1001 rm -f sticky/x
fsop as 1000 1000 rm sticky/x

# Another user's group lets one create in a shared folder.
mkdir shared
chgrp 700 shared
chmod 770 shared
fsop as 1000 1000,700 sh -c 'echo x >shared/x'
[ "$(host 'stat -c %u:%g shared/x')" = 1000:1000 ]
