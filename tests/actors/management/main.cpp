#define BOOST_TEST_MODULE actors_management
#include <boost/test/unit_test.hpp>
