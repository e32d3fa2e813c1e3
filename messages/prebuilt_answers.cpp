#include "messages/interfaces.hpp"

#define VARVE_HERE(...) VARVE_INSTANTIATE_TUPLE(, __VA_ARGS__)
VARVE_ANSWERS(VARVE_HERE)
VARVE_HERE(caf::atom_value)
