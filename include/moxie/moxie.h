/* SPDX-License-Identifier: Apache-2.0 */
/** @file
 * Everything an exchange needs. moxie/reference.h is for tests and comes separately.
 */
#ifndef MOXIE_MOXIE_H
#define MOXIE_MOXIE_H

#include "moxie/backend.h"
#include "moxie/dtype.h"
#include "moxie/exchange.h"
#include "moxie/group.h"
#include "moxie/placement.h"
#include "moxie/quote.h"
#include "moxie/route.h"
#include "moxie/status.h"
#include "moxie/version.h"
#include "moxie/window.h"

#endif
