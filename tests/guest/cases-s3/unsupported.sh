# SPDX-License-Identifier: Apache-2.0
# CASE: what a bucket cannot keep is refused, or ignored where that was asked for
# TOOLS: debian

echo x >file
fails_with "not supported" ln -s file soft
fails_with "not supported" ln file hard
fails_with "not supported" setfattr -n user.a -v b file
fails_with "not supported" mkfifo pipe
chmod 600 file
chown 1:2 file
[ "$(stat -c %a:%u:%g file)" = 755:0:0 ]
cp -p file copy
install -m 755 file installed
[ "$(cat installed)" = x ]
fails_with EINVAL fsop rename2 exchange file copy
[ "$(ls | wc -l)" = 3 ]
