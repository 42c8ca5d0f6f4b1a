package simulate

import (
	"fmt"
	"slices"
)

// cities names where a country's listeners live, the largest first: several
// cities for the countries that stream most, the capital (or the largest city)
// for the other countries of the charts, none for the rest of the world.
var cities = map[string][]string{
	"US": {"New York", "Los Angeles", "Chicago", "Houston", "Atlanta", "Miami"},
	"MX": {"Mexico City", "Guadalajara", "Monterrey", "Puebla", "Tijuana"},
	"BR": {"São Paulo", "Rio de Janeiro", "Belo Horizonte", "Brasília", "Salvador", "Curitiba"},
	"IN": {"Mumbai", "Delhi", "Bengaluru", "Hyderabad", "Chennai", "Kolkata"},
	"ID": {"Jakarta", "Surabaya", "Bandung", "Medan"},
	"DE": {"Berlin", "Hamburg", "Munich", "Cologne", "Frankfurt"},
	"GB": {"London", "Manchester", "Birmingham", "Glasgow", "Leeds"},
	"PH": {"Quezon City", "Manila", "Davao", "Cebu"},
	"TR": {"Istanbul", "Ankara", "Izmir", "Bursa"},
	"ES": {"Madrid", "Barcelona", "Valencia", "Seville"},
	"CA": {"Toronto", "Montreal", "Vancouver", "Calgary"},
	"FR": {"Paris", "Marseille", "Lyon", "Toulouse"},
	"IT": {"Rome", "Milan", "Naples", "Turin"},
	"AU": {"Sydney", "Melbourne", "Brisbane", "Perth"},
	"NL": {"Amsterdam", "Rotterdam", "The Hague", "Utrecht"},
	"CL": {"Santiago", "Valparaíso", "Concepción"},
	"PL": {"Warsaw", "Kraków", "Wrocław", "Gdańsk"},
	"SE": {"Stockholm", "Gothenburg", "Malmö"},
	"CO": {"Bogotá", "Medellín", "Cali", "Barranquilla"},
	"TH": {"Bangkok", "Chiang Mai", "Nonthaburi"},
	"PE": {"Lima", "Arequipa", "Trujillo"},
	"VN": {"Ho Chi Minh City", "Hanoi", "Da Nang"},
	"DK": {"Copenhagen", "Aarhus", "Odense"},
	"NG": {"Lagos", "Kano", "Ibadan", "Abuja"},
	"NO": {"Oslo", "Bergen", "Trondheim"},

	"AE": {"Dubai"}, "AT": {"Vienna"}, "BE": {"Brussels"}, "BG": {"Sofia"}, "BO": {"La Paz"}, "BY": {"Minsk"},
	"CH": {"Zurich"}, "CR": {"San José"}, "CY": {"Nicosia"}, "CZ": {"Prague"}, "DO": {"Santo Domingo"}, "EC": {"Quito"},
	"EE": {"Tallinn"}, "EG": {"Cairo"}, "FI": {"Helsinki"}, "GR": {"Athens"}, "GT": {"Guatemala City"}, "HK": {"Hong Kong"},
	"HN": {"Tegucigalpa"}, "HU": {"Budapest"}, "IE": {"Dublin"}, "IL": {"Tel Aviv"}, "IS": {"Reykjavík"}, "JP": {"Tokyo"},
	"KR": {"Seoul"}, "KZ": {"Almaty"}, "LT": {"Vilnius"}, "LU": {"Luxembourg"}, "LV": {"Riga"}, "MA": {"Casablanca"},
	"MY": {"Kuala Lumpur"}, "NI": {"Managua"}, "NZ": {"Auckland"}, "PA": {"Panama City"}, "PK": {"Karachi"}, "PT": {"Lisbon"},
	"PY": {"Asunción"}, "RO": {"Bucharest"}, "SA": {"Riyadh"}, "SG": {"Singapore"}, "SK": {"Bratislava"}, "SV": {"San Salvador"},
	"TW": {"Taipei"}, "UA": {"Kyiv"}, "UY": {"Montevideo"}, "VE": {"Caracas"}, "ZA": {"Johannesburg"}, "AR": {"Buenos Aires"},
}

// townsOf gives the cities of each country: the real ones, and beside them
// districts until there are n in all, shared out in proportion to the weights.
// 0 means the real ones.
func townsOf(countries []string, weights []float64, n int) ([][]string, error) {
	towns := make([][]string, len(countries))
	known, sum := 0, 0.0
	for i, country := range countries {
		towns[i] = slices.Clone(cities[country])
		known += len(towns[i])
		sum += weights[i]
	}
	if n == 0 {
		return towns, nil
	}
	if n < known {
		return nil, fmt.Errorf("cities must be 0 or at least the %d that are known, is %d", known, n)
	}
	// Rounded as sums, so that the shares add up.
	made, due := 0, 0.0
	for i := range towns {
		due += weights[i] / sum * float64(n-known)
		for ; made < int(due+0.5); made++ {
			towns[i] = append(towns[i], fmt.Sprint("District ", len(towns[i])+1))
		}
	}
	return towns, nil
}
