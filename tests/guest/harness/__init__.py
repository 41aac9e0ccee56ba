# SPDX-License-Identifier: Apache-2.0
"""What tests/guest/run is made of: daemons, guests, cases, and the report."""
