# SPDX-License-Identifier: Apache-2.0
"""What the service level stands on: servers, buckets, faults, a daemon and its client."""
