package population

// givenEach is how many given names there are of each kind: the first half are women's, the second men's.
const givenEach = 16

var givenNames = [2 * givenEach]string{
	"Aino", "Helmi", "Sofia", "Eevi", "Lilja", "Saga", "Venla", "Siiri", "Kerttu", "Martta", "Lumi", "Elsa", "Ingrid", "Biret", "Hanna", "Päivi",
	"Eero", "Onni", "Leo", "Väinö", "Toivo", "Elias", "Ilmari", "Veikko", "Axel", "Jouni", "Matti", "Niilo", "Oskar", "Åke", "Juhani", "Lauri",
}

var familyNames = [...]string{
	"Korhonen", "Virtanen", "Mäkinen", "Nieminen", "Mäkelä", "Hämäläinen", "Laine", "Heikkinen", "Koskinen", "Järvinen", "Lehtonen", "Saarinen",
	"Salo", "Rantanen", "Holm", "Lindholm", "Sjöberg", "Magga", "Valle", "Ahonen", "Öhman", "Räsänen", "Pöyhönen", "Aalto",
}

// languages are weighted by repetition.
var languages = [...]string{"fi", "fi", "fi", "fi", "fi", "fi", "fi", "fi", "sv", "other"}

// places are municipalities with a postal code of theirs, weighted by repetition.
var places = [...]struct {
	name, postalCode    string
	latitude, longitude float64
}{
	{"Helsinki", "00100", 60.17, 24.94}, {"Helsinki", "00580", 60.19, 24.97}, {"Helsinki", "00200", 60.16, 24.88}, {"Helsinki", "00940", 60.23, 25.08},
	{"Espoo", "02100", 60.18, 24.83}, {"Espoo", "02600", 60.22, 24.81}, {"Tampere", "33100", 61.5, 23.77}, {"Tampere", "33720", 61.45, 23.85},
	{"Vantaa", "01300", 60.29, 25.04}, {"Oulu", "90100", 65.01, 25.47}, {"Turku", "20100", 60.45, 22.27}, {"Jyväskylä", "40100", 62.24, 25.75},
	{"Kuopio", "70100", 62.89, 27.68}, {"Lahti", "15110", 60.98, 25.66}, {"Pori", "28100", 61.49, 21.8}, {"Vaasa", "65100", 63.1, 21.62},
	{"Rovaniemi", "96100", 66.5, 25.73}, {"Inari", "99870", 68.91, 27.03}, {"Maarianhamina", "22100", 60.1, 19.94},
}

var streets = [...]string{
	"Mannerheimintie", "Hämeenkatu", "Kauppakatu", "Puistokatu", "Koulutie", "Rantatie", "Asemakatu", "Kirkkokatu", "Metsätie", "Satamakatu", "Mäkitie", "Storgatan",
}

var industries = [...]string{"41200", "62010", "47110", "86210", "56101", "01110", "69201", "96021", "49410", "85200"}

var companyWords = [2][12]string{
	{"Pohjan", "Järven", "Uusi", "Kaupungin", "Saimaan", "Lapin", "Pieni", "Vihreä", "Hopea", "Etelän", "Sininen", "Kolmas"},
	{"Rakennus", "Ohjelmistot", "Kauppa", "Hoiva", "Kahvila", "Viljely", "Tilit", "Parturi", "Kuljetus", "Koulutus", "Paja", "Puutarha"},
}

var companyForms = [...]string{"OY", "OY", "OY", "OY", "TMI", "TMI", "KY", "AY", "OSK"}
