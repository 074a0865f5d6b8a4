package population

// The data of the events, as the schemas in examples/schemas have it. Dates are YYYY-MM-DD, decimals text.

type birthData struct {
	RegisteredAt     string       `json:"registeredAt"`
	Hospital         hospitalData `json:"hospital"`
	BirthPlace       placeData    `json:"birthPlace"`
	ParentResidency  string       `json:"parentResidency"`
	NumberOfChildren int          `json:"numberOfChildren"`
	Mother           parentData   `json:"mother"`
	Father           *parentData  `json:"father"`
	Children         []childData  `json:"children"`
}

type hospitalData struct {
	Name string  `json:"name"`
	Unit *string `json:"unit"`
}

type placeData struct {
	Municipality string `json:"municipality"`
	Country      string `json:"country"`
}

type parentData struct {
	ID           string   `json:"id"`
	Name         nameData `json:"name"`
	Municipality string   `json:"municipality"`
	Language     string   `json:"language"`
	BankAccount  *string  `json:"bankAccount"`
}

type nameData struct {
	GivenNames []string `json:"givenNames"`
	FamilyName string   `json:"familyName"`
}

type childData struct {
	ID          string    `json:"id"`
	Name        *nameData `json:"name"`
	Sex         string    `json:"sex"`
	BirthDate   string    `json:"birthDate"`
	BirthTime   string    `json:"birthTime"`
	WeightGrams *int      `json:"weightGrams"`
	Apgar       []int     `json:"apgar"`
}

type addressChangedData struct {
	Person        identified   `json:"person"`
	OldAddress    *addressData `json:"oldAddress"`
	NewAddress    addressData  `json:"newAddress"`
	MovedOn       string       `json:"movedOn"`
	Permanent     bool         `json:"permanent"`
	HouseholdSize *int         `json:"householdSize"`
}

type identified struct {
	ID   string `json:"id"`
	Name string `json:"name"`
}

type addressData struct {
	Street       string        `json:"street"`
	PostalCode   string        `json:"postalCode"`
	Municipality string        `json:"municipality"`
	Country      string        `json:"country"`
	Location     *locationData `json:"location"`
}

type locationData struct {
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
}

type marriageData struct {
	Ceremony         ceremonyData `json:"ceremony"`
	MaritalStatus    string       `json:"maritalStatus"`
	Spouses          []spouseData `json:"spouses"`
	MaritalAgreement *string      `json:"maritalAgreement"`
}

type ceremonyData struct {
	Date         string `json:"date"`
	Kind         string `json:"kind"`
	Municipality string `json:"municipality"`
}

type spouseData struct {
	ID               string `json:"id"`
	GivenNames       string `json:"givenNames"`
	FamilyNameBefore string `json:"familyNameBefore"`
	FamilyName       string `json:"familyName"`
}

type deathData struct {
	Person       identified `json:"person"`
	Status       string     `json:"status"`
	DateOfDeath  string     `json:"dateOfDeath"`
	Municipality *string    `json:"municipality"`
	Certificate  *string    `json:"certificate"`
}

type startedData struct {
	Reference        string       `json:"reference"`
	Employee         identified   `json:"employee"`
	Employer         employerData `json:"employer"`
	EmploymentStatus string       `json:"employmentStatus"`
	StartsOn         string       `json:"startsOn"`
	EndsOn           *string      `json:"endsOn"`
	Terms            termsData    `json:"terms"`
}

type employerData struct {
	BusinessID     string  `json:"businessId"`
	Name           string  `json:"name"`
	PayrollContact *string `json:"payrollContact"`
}

type termsData struct {
	Kind          string         `json:"kind"`
	Occupation    string         `json:"occupation"`
	WeeklyHours   float64        `json:"weeklyHours"`
	MonthlySalary string         `json:"monthlySalary"`
	Benefits      map[string]int `json:"benefits"`
}

type annulledData struct {
	Reference        string       `json:"reference"`
	Employee         onlyID       `json:"employee"`
	Employer         onlyBusiness `json:"employer"`
	EmploymentStatus string       `json:"employmentStatus"`
	AnnulledOn       string       `json:"annulledOn"`
	Reason           *string      `json:"reason"`
}

type onlyID struct {
	ID string `json:"id"`
}

type onlyBusiness struct {
	BusinessID string `json:"businessId"`
}

type registeredData struct {
	Company  companyData   `json:"company"`
	Founders []founderData `json:"founders"`
}

type companyData struct {
	BusinessID   string  `json:"businessId"`
	Name         string  `json:"name"`
	Form         string  `json:"form"`
	Industry     string  `json:"industry"`
	Municipality string  `json:"municipality"`
	RegisteredOn string  `json:"registeredOn"`
	Status       string  `json:"status"`
	ShareCapital *string `json:"shareCapital"`
}

type founderData struct {
	ID     string   `json:"id"`
	Name   string   `json:"name"`
	Roles  []string `json:"roles"`
	Shares *int     `json:"shares"`
}

type dissolvedData struct {
	YTunnus        string            `json:"yTunnus"`
	Toiminimi      string            `json:"toiminimi"`
	Lakkaamispaiva string            `json:"lakkaamispaiva"`
	Tila           string            `json:"tila"`
	Peruste        string            `json:"peruste"`
	Selvitysmies   *liquidatorData   `json:"selvitysmies"`
	Velat          map[string]string `json:"velat"`
	Merkinta       entryData         `json:"merkinta"`
}

type liquidatorData struct {
	Hetu string `json:"hetu"`
	Nimi string `json:"nimi"`
}

type entryData struct {
	Numero    int        `json:"numero"`
	Tunniste  []byte     `json:"tunniste"`
	Edellinen *entryData `json:"edellinen"`
}
