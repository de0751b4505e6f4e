// The private variant: a virtual network that the function calls out through, and the names of what it finds in there.

param name string
param location string
param tags object

var zoneNames = {
  blob: 'privatelink.blob.${environment().suffixes.storage}'
  keyVault: 'privatelink.vaultcore.azure.net'
  openai: 'privatelink.openai.azure.com'
  postgres: 'privatelink.postgres.database.azure.com'
}

resource network 'Microsoft.Network/virtualNetworks@2025-05-01' = {
  name: name
  location: location
  tags: tags
  properties: {
    addressSpace: {
      addressPrefixes: [
        '10.40.0.0/16'
      ]
    }
  }
}

resource functionSubnet 'Microsoft.Network/virtualNetworks/subnets@2025-05-01' = {
  parent: network
  name: 'function'
  properties: {
    addressPrefix: '10.40.0.0/24'
    delegations: [
      {
        name: 'flex-consumption'
        properties: {
          serviceName: 'Microsoft.App/environments'
        }
      }
    ]
  }
}

resource endpointSubnet 'Microsoft.Network/virtualNetworks/subnets@2025-05-01' = {
  parent: network
  name: 'endpoints'
  properties: {
    addressPrefix: '10.40.1.0/24'
    privateEndpointNetworkPolicies: 'Disabled'
  }
  // A network takes one change at a time.
  dependsOn: [
    functionSubnet
  ]
}

resource zones 'Microsoft.Network/privateDnsZones@2024-06-01' = [for zone in items(zoneNames): {
  name: zone.value
  location: 'global'
  tags: tags
}]

resource links 'Microsoft.Network/privateDnsZones/virtualNetworkLinks@2024-06-01' = [for (zone, index) in items(zoneNames): {
  parent: zones[index]
  name: 'link'
  location: 'global'
  tags: tags
  properties: {
    registrationEnabled: false
    virtualNetwork: {
      id: network.id
    }
  }
}]

output functionSubnetId string = functionSubnet.id
output endpointSubnetId string = endpointSubnet.id
// items() sorts by key, so the order is that of the names above.
output blobZoneId string = zones[0].id
output keyVaultZoneId string = zones[1].id
output openaiZoneId string = zones[2].id
output postgresZoneId string = zones[3].id
