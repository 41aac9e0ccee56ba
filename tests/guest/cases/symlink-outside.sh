# SPDX-License-Identifier: Apache-2.0
# CASE: a symbolic link to a path outside of the root never leads the host there
# TOOLS: busybox

# The same path exists on both sides, with different contents: what a guest
# gets through the link must be its own, not the host's.
secret=/tmp/ovfs-secret-$$
[ "$GUEST_KIND" != uml ] || secret=$TMPDIR/secret
host "mkdir -p $(dirname "$secret"); rm -f '$secret'; echo host >'$secret'" || :
mkdir -p "$(dirname "$secret")"
[ "$GUEST_KIND" = local ] || echo guest >"$secret"
ln -s "$secret" absolute
[ "$GUEST_KIND" = local ] || [ "$(cat absolute)" = guest ]

# Written through it, too: the host's file stays what it is.
[ "$GUEST_KIND" = local ] || echo changed >absolute
[ "$(host "cat '$secret'")" = host ]
host "rm '$secret'"

# Upwards, out of the exported folder.
host 'echo outside >../../ovfs-outside'
ln -s ../../ovfs-outside up
[ "$GUEST_KIND" = local ] || refused cat up
[ "$GUEST_KIND" = local ] || refused sh -c 'echo in >up/x'
host 'rm ../../ovfs-outside'

# A folder that is replaced by a link while it is in use.
mkdir dir
echo inside >dir/file
host 'mv dir gone && ln -s /etc dir'
within 5 refused test -e dir/file
host 'rm dir && mv gone dir'
within 5 test -f dir/file
[ "$(cat dir/file)" = inside ]
