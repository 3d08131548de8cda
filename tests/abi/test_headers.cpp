// SPDX-License-Identifier: Apache-2.0
// The public headers compile as C++, and their functions link with C names.
#include "moxie/moxie.h"
#include "moxie/reference.h"

int main()
{
    return moxie_version() == MOXIE_VERSION ? 0 : 1;
}
