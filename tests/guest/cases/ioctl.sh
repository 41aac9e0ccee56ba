# SPDX-License-Identifier: Apache-2.0
# CASE: an ioctl is answered, with an error where it is not supported
# TOOLS: busybox

echo x >file
fsop ioctl file || fails_with ENOTTY fsop ioctl file || fails_with EOPNOTSUPP fsop ioctl file ||
	fails_with ENOSYS fsop ioctl file
