// Which table of kernels this CPU runs.
#pragma once

#include <string_view>
#include <vector>

#include "kernels.hpp"

namespace mmme {

std::vector<const Kernels*> supported(); // fastest first
const Kernels& active();                 // the fastest supported, unless use() chose another
bool use(std::string_view name);         // false when this CPU or this build lacks it

} // namespace mmme
