# SPDX-License-Identifier: Apache-2.0
"""Compares ovfs with other virtio-fs daemons; see bench/run."""
