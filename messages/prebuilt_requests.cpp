#include "messages/interfaces.hpp"

#define VARVE_HERE(...) VARVE_INSTANTIATE_TUPLE(, caf::atom_value, __VA_ARGS__)
VARVE_REQUESTS(VARVE_HERE)
